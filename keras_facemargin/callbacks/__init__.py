"""The warm-start kit, what a margin loss needs around it to train from scratch; and View 1.

`MarginRamp` and `ScaleRamp` let margin and scale grow; `MarginClassifier.with_head` goes on under
another head with the prototypes that were learned; `CollapseDetector` says early that embeddings
fall together; `FiniteGuard` stops on a loss that is not finite and says where it came from;
`BestByView1` judges the embedder on development pairs and ends with its best weights; `ExactResume`
lets a run that was killed go on as if it had not been; `StepBar` shows how far it is.
"""

from keras_facemargin.callbacks.collapse import CollapseDetector, Spread, measure_spread
from keras_facemargin.callbacks.exact_resume import ExactResume
from keras_facemargin.callbacks.finite_guard import FiniteGuard
from keras_facemargin.callbacks.ramps import MarginRamp, ScaleRamp
from keras_facemargin.callbacks.step_bar import StepBar
from keras_facemargin.callbacks.view_1 import BestByView1

__all__ = [
    "BestByView1",
    "CollapseDetector",
    "ExactResume",
    "FiniteGuard",
    "MarginRamp",
    "ScaleRamp",
    "Spread",
    "StepBar",
    "measure_spread",
]
