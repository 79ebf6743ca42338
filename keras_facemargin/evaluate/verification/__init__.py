"""1:1 verification: scores of pairs become rates, accuracy and thresholds.

`pairs` holds the images of the pairs and scores them, `curve` counts the scores, `verification`
reads the measures from the counts, and `conventions` reads them by the rules of other codes.
`likelihood` gives scores a meaning. `insightface` reads the .bin files of that project.
"""

from keras_facemargin.evaluate.verification.conventions import (
    RULES,
    interpolated,
    kth_impostor,
    nearest,
    validation_rate,
)
from keras_facemargin.evaluate.verification.curve import Roc, TarAtFar, roc
from keras_facemargin.evaluate.verification.insightface import evaluate_bin, read_bin_pairs
from keras_facemargin.evaluate.verification.likelihood import (
    Logistic,
    cllr,
    empirical_cross_entropy,
    fit_logistic,
    isotonic_ratios,
    min_cllr,
    ratios_by_fold,
)
from keras_facemargin.evaluate.verification.pairs import (
    EmbeddedPairs,
    Pairs,
    embed_pairs,
    evaluate_pairs,
    score_pairs,
)
from keras_facemargin.evaluate.verification.verification import (
    FAR_TARGETS,
    FoldAccuracy,
    Verification,
    area_under_curve,
    equal_error_rate,
    fold_accuracy,
    tar_at_far,
    threshold_at_far,
    verify,
)

__all__ = [
    "FAR_TARGETS",
    "RULES",
    "EmbeddedPairs",
    "FoldAccuracy",
    "Logistic",
    "Pairs",
    "Roc",
    "TarAtFar",
    "Verification",
    "area_under_curve",
    "cllr",
    "embed_pairs",
    "empirical_cross_entropy",
    "equal_error_rate",
    "evaluate_bin",
    "evaluate_pairs",
    "fit_logistic",
    "fold_accuracy",
    "interpolated",
    "isotonic_ratios",
    "kth_impostor",
    "min_cllr",
    "nearest",
    "ratios_by_fold",
    "read_bin_pairs",
    "roc",
    "score_pairs",
    "tar_at_far",
    "threshold_at_far",
    "validation_rate",
    "verify",
]
