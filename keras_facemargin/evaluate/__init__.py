"""Scores in, measures out: how good an embedder is, by definitions stated exactly once.

`verification` knows scores only, `embed` images only; `pairs` joins them, `templates` does so for
several images of a person. `protocols` is a folder: each file reads one family's official lists
into these. `all_pairs` knows embeddings and whose they are, and streams; `identification` searches
a gallery, `distractors` people among strangers; `splits` is the mean of several runs. `plots` draws
what `verification` counted, and `audit` turns embeddings on the data that they come from.
"""

from keras_facemargin.evaluate.all_pairs import (
    AllPairs,
    all_pairs,
    cosine_scores_of_pairs,
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
from keras_facemargin.evaluate.distractors import AmongDistractors, search_among_distractors
from keras_facemargin.evaluate.embed import embed
from keras_facemargin.evaluate.identification import (
    Identification,
    TpirAtFpir,
    closed_gallery_rate,
    identify,
    largest_scores_of_others,
    mean_over_galleries,
)
from keras_facemargin.evaluate.insightface import evaluate_bin, read_bin_pairs
from keras_facemargin.evaluate.pairs import Pairs, evaluate_pairs, score_pairs
from keras_facemargin.evaluate.plots import plot_hardest_pairs, plot_roc, plot_scores
from keras_facemargin.evaluate.protocols import (
    View1,
    View1Result,
    evaluate_lfw,
    evaluate_view_1,
    read_pairs,
    read_view_1,
)
from keras_facemargin.evaluate.splits import (
    SplitResults,
    ValueResults,
    verify_by_fold,
    verify_by_value,
)
from keras_facemargin.evaluate.templates import (
    TemplatePairs,
    Templates,
    TemplateSearches,
    embed_templates,
    evaluate_folders,
    evaluate_searches,
    evaluate_template_pairs,
    score_template_pairs,
)
from keras_facemargin.evaluate.verification import (
    FoldAccuracy,
    Roc,
    TarAtFar,
    Verification,
    area_under_curve,
    cosine_scores,
    equal_error_rate,
    fold_accuracy,
    roc,
    tar_at_far,
    threshold_at_far,
    verify,
)

__all__ = [
    "AlikePairs",
    "AllPairs",
    "AmongDistractors",
    "FoldAccuracy",
    "Identification",
    "LabelNoise",
    "Pairs",
    "Roc",
    "SplitResults",
    "TarAtFar",
    "TemplatePairs",
    "TemplateSearches",
    "Templates",
    "TpirAtFpir",
    "ValueResults",
    "Verification",
    "View1",
    "View1Result",
    "all_pairs",
    "area_under_curve",
    "closed_gallery_rate",
    "cosine_scores",
    "cosine_scores_of_pairs",
    "draw_audit",
    "embed",
    "embed_templates",
    "equal_error_rate",
    "evaluate_bin",
    "evaluate_folders",
    "evaluate_lfw",
    "evaluate_pairs",
    "evaluate_searches",
    "evaluate_template_pairs",
    "evaluate_view_1",
    "fold_accuracy",
    "identify",
    "label_noise",
    "largest_scores_of_others",
    "mean_over_galleries",
    "near_duplicates",
    "plot_hardest_pairs",
    "plot_roc",
    "plot_scores",
    "read_bin_pairs",
    "read_pairs",
    "read_view_1",
    "roc",
    "score_pairs",
    "score_template_pairs",
    "search_among_distractors",
    "shared_identities",
    "shared_images",
    "tar_at_far",
    "threshold_at_far",
    "verify",
    "verify_all_pairs",
    "verify_by_fold",
    "verify_by_value",
]
