"""Fine-tuning an embedder on your people, and the judgement whether anything was gained.

The steps in their order, a file each: `parts` (who trains, who tests), `known` (people of an
earlier fine-tuning), `heads` (to train with), `fit` (a map of the embedding), `layers` (on
request), `learned` (what both give), `judge` (before and after), `result` (the kept embedder, its
folder). `run` joins them in `finetune`.
"""

from keras_facemargin.training.finetune.heads import HEADS
from keras_facemargin.training.finetune.judge import Comparison, Judged, Measure
from keras_facemargin.training.finetune.known import find_known, read_known
from keras_facemargin.training.finetune.result import SAVED_FILES, FineTuned
from keras_facemargin.training.finetune.run import finetune

__all__ = [
    "HEADS",
    "SAVED_FILES",
    "Comparison",
    "FineTuned",
    "Judged",
    "Measure",
    "find_known",
    "finetune",
    "read_known",
]
