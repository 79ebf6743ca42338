"""The warm-start kit for margin losses, checks during training, and exact resume.

- `MarginRamp`, `ScaleRamp`: increase the margin and the scale step by step.
- `CollapseDetector`: warns early that the embeddings become equal.
- `FiniteGuard`: stops at a loss that is not finite and names its source.
- `RestoreBestByPairs`: verifies development pairs and restores the best weights at the end.
- `ExactResume`: a killed run continues with the losses of the uninterrupted run.
- `StepBar`: shows progress.

`MarginClassifier.with_head` continues under another head with the learned prototypes.
"""

from keras_facemargin.callbacks.collapse import CollapseDetector, Spread, measure_spread
from keras_facemargin.callbacks.exact_resume import ExactResume
from keras_facemargin.callbacks.finite_guard import FiniteGuard
from keras_facemargin.callbacks.ramps import MarginRamp, ScaleRamp
from keras_facemargin.callbacks.restore_best import RestoreBestByPairs
from keras_facemargin.callbacks.step_bar import StepBar

__all__ = [
    "CollapseDetector",
    "ExactResume",
    "FiniteGuard",
    "MarginRamp",
    "RestoreBestByPairs",
    "ScaleRamp",
    "Spread",
    "StepBar",
    "measure_spread",
]
