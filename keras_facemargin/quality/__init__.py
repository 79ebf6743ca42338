"""The quality of a face crop, and the answer "cannot say" where it is too low.

One number fails one of the two errors. `Quality.utility` predicts false rejects: pose, occlusion
and bad alignment. `Quality.sharpness` predicts false accepts: an embedder finds blurred strangers
similar to each other. `judge` measures both, `decide` compares two crops with them.

Plain numpy: neither Keras nor a runtime is needed.
"""

from keras_facemargin.quality.decision import Decision, Verdicts, decide, shortfall, verdicts
from keras_facemargin.quality.judge import Limits, Quality, UtilityScale, judge, norm_weight
from keras_facemargin.quality.resolution import effective_resolution, pooling_quality

__all__ = [
    "Decision",
    "Limits",
    "Quality",
    "UtilityScale",
    "Verdicts",
    "decide",
    "effective_resolution",
    "judge",
    "norm_weight",
    "pooling_quality",
    "shortfall",
    "verdicts",
]
