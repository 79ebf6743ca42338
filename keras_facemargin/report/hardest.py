"""The pairs on which an embedder errs most, as pictures."""

from keras_facemargin.evaluate import plot_hardest_pairs


def add_hardest(page, pairs, scores):
    """Pictures of the hardest pairs, where the images are at hand."""
    if pairs.first is None:
        return
    page.figure(
        plot_hardest_pairs(pairs, scores),
        "Where the embedder errs most. A genuine pair of two different people, or an impostor pair "
        "of one, is an error of the list: look before you blame.",
    )
