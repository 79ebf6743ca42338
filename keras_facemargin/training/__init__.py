"""Training runs: fine-tuning on a folder of people, and training by a recipe file."""
