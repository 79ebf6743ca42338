"""Scores in, measures out: how good an embedder is, by definitions stated exactly once.

`roc` counts scores, `verification` asks it, `conventions` asks as others do; `bootstrap` says how
certain the answer is and `groups` for whom. `embed` knows images only, `cosine` embeddings; `pairs`
joins them, and each protocol's file reads that protocol's official lists into `Pairs`. `all_pairs`
knows embeddings and whose they are, and streams; `identification` searches a gallery. `plots` draws
what was counted, and `audit` turns embeddings on the data that they come from.
"""

from keras_facemargin.evaluate.all_pairs import (
    HardestPairs,
    all_pairs,
    hardest_pairs,
    verify_all_pairs,
)
from keras_facemargin.evaluate.audit import (
    AlikePairs,
    LabelNoise,
    draw_audit,
    label_noise,
    near_duplicates,
    shared_identities,
    shared_images,
)
from keras_facemargin.evaluate.bootstrap import (
    Bootstrap,
    Interval,
    bootstrap,
    bootstrap_hardest,
    interval,
)
from keras_facemargin.evaluate.conventions import validation_rate
from keras_facemargin.evaluate.cosine import cosine_scores, cosine_scores_of_pairs
from keras_facemargin.evaluate.embed import embed
from keras_facemargin.evaluate.groups import Group, GroupRate, rates_by_group, read_groups
from keras_facemargin.evaluate.identification import (
    Identification,
    TpirAtFpir,
    closed_gallery_rate,
    identify,
    mean_over_galleries,
)
from keras_facemargin.evaluate.insightface import evaluate_bin, read_bin_pairs
from keras_facemargin.evaluate.lfw import evaluate_lfw, read_pairs
from keras_facemargin.evaluate.listed_pairs import verify_listed_pairs
from keras_facemargin.evaluate.pairs import Pairs, evaluate_pairs, score_pairs
from keras_facemargin.evaluate.plots import (
    plot_det,
    plot_groups,
    plot_hardest_pairs,
    plot_roc,
    plot_scores,
)
from keras_facemargin.evaluate.refine import PairRates
from keras_facemargin.evaluate.roc import Roc, TarAtFar, roc
from keras_facemargin.evaluate.verification import (
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
    "AlikePairs",
    "Bootstrap",
    "FoldAccuracy",
    "Group",
    "GroupRate",
    "HardestPairs",
    "Identification",
    "Interval",
    "LabelNoise",
    "PairRates",
    "Pairs",
    "Roc",
    "TarAtFar",
    "TpirAtFpir",
    "Verification",
    "all_pairs",
    "area_under_curve",
    "bootstrap",
    "bootstrap_hardest",
    "closed_gallery_rate",
    "cosine_scores",
    "cosine_scores_of_pairs",
    "draw_audit",
    "embed",
    "equal_error_rate",
    "evaluate_bin",
    "evaluate_lfw",
    "evaluate_pairs",
    "fold_accuracy",
    "hardest_pairs",
    "identify",
    "interval",
    "label_noise",
    "mean_over_galleries",
    "near_duplicates",
    "plot_det",
    "plot_groups",
    "plot_hardest_pairs",
    "plot_roc",
    "plot_scores",
    "rates_by_group",
    "read_bin_pairs",
    "read_groups",
    "read_pairs",
    "roc",
    "score_pairs",
    "shared_identities",
    "shared_images",
    "tar_at_far",
    "threshold_at_far",
    "validation_rate",
    "verify",
    "verify_all_pairs",
    "verify_listed_pairs",
]
