"""1:N identification: probes searched in a gallery, among strangers or distractors."""
