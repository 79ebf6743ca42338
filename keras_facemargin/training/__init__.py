"""Whole training runs: fine-tuning on a folder of people, and runs by a recipe file."""
