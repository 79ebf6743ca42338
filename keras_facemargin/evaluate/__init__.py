"""Scores in, measures out: how good an embedder is, by definitions stated exactly once.

`roc` counts scores, `verification` asks it, `conventions` asks as others do; `bootstrap` and
`search_draws` say how certain the answer is and `groups` for whom. `embed` knows images only,
`cosine` embeddings; `pairs` joins them, `templates` does so for several images of a person.
`protocols` is a folder: each file reads one family's official lists into these. `all_pairs` knows
embeddings and whose they are, and streams (a `sweep`, the `histogram`, `refine`, and the `hardest`
pairs); `identification` measures searches of a `gallery`, `distractors` people among strangers;
`splits` is the mean of several runs. `plots` draws what was counted, and `audit` turns embeddings
on the data that they come from.
"""

from keras_facemargin.evaluate.at_scale.every_pair import all_pairs, verify_all_pairs
from keras_facemargin.evaluate.at_scale.hardest import HardestPairs, hardest_pairs
from keras_facemargin.evaluate.at_scale.histogram import ScoreHistogram
from keras_facemargin.evaluate.at_scale.listed_pairs import (
    HardestListedPairs,
    hardest_listed_pairs,
    verify_listed_pairs,
)
from keras_facemargin.evaluate.at_scale.refine import PairRates
from keras_facemargin.evaluate.cosine import cosine_scores, cosine_scores_of_pairs
from keras_facemargin.evaluate.embedding import embed
from keras_facemargin.evaluate.identification.distractors import (
    AmongDistractors,
    search_among_distractors,
)
from keras_facemargin.evaluate.identification.gallery import (
    best_of_gallery,
    largest_scores_of_others,
)
from keras_facemargin.evaluate.identification.identification import (
    Identification,
    TpirAtFpir,
    closed_gallery_rate,
    identify,
    mean_over_galleries,
)
from keras_facemargin.evaluate.plots import (
    plot_cmc,
    plot_det,
    plot_groups,
    plot_hardest_pairs,
    plot_open_set,
    plot_roc,
    plot_score_histogram,
    plot_scores,
)
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
    evaluate_searches,
    evaluate_template_pairs,
    score_template_pairs,
    searches_of_folders,
)
from keras_facemargin.evaluate.uncertainty.groups import (
    Group,
    GroupRate,
    rates_by_group,
    rates_by_two_groups,
    rates_by_value,
    read_groups,
    read_groups_of_images,
)
from keras_facemargin.evaluate.uncertainty.resampling import (
    Bootstrap,
    Interval,
    bootstrap,
    bootstrap_hardest,
    bootstrap_hardest_splits,
    bootstrap_splits,
    interval,
)
from keras_facemargin.evaluate.uncertainty.search_draws import (
    DistractorDraws,
    SearchDraws,
    bootstrap_distractors,
    bootstrap_searches,
)
from keras_facemargin.evaluate.verification.conventions import validation_rate
from keras_facemargin.evaluate.verification.curve import Roc, TarAtFar, roc
from keras_facemargin.evaluate.verification.insightface import evaluate_bin, read_bin_pairs
from keras_facemargin.evaluate.verification.pairs import Pairs, evaluate_pairs, score_pairs
from keras_facemargin.evaluate.verification.verification import (
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
    "AmongDistractors",
    "Bootstrap",
    "DistractorDraws",
    "FoldAccuracy",
    "Group",
    "GroupRate",
    "HardestListedPairs",
    "HardestPairs",
    "Identification",
    "Interval",
    "PairRates",
    "Pairs",
    "Roc",
    "ScoreHistogram",
    "SearchDraws",
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
    "best_of_gallery",
    "bootstrap",
    "bootstrap_distractors",
    "bootstrap_hardest",
    "bootstrap_hardest_splits",
    "bootstrap_searches",
    "bootstrap_splits",
    "closed_gallery_rate",
    "cosine_scores",
    "cosine_scores_of_pairs",
    "embed",
    "embed_templates",
    "equal_error_rate",
    "evaluate_bin",
    "evaluate_lfw",
    "evaluate_pairs",
    "evaluate_searches",
    "evaluate_template_pairs",
    "evaluate_view_1",
    "fold_accuracy",
    "hardest_listed_pairs",
    "hardest_pairs",
    "identify",
    "interval",
    "largest_scores_of_others",
    "mean_over_galleries",
    "plot_cmc",
    "plot_det",
    "plot_groups",
    "plot_hardest_pairs",
    "plot_open_set",
    "plot_roc",
    "plot_score_histogram",
    "plot_scores",
    "rates_by_group",
    "rates_by_two_groups",
    "rates_by_value",
    "read_bin_pairs",
    "read_groups",
    "read_groups_of_images",
    "read_pairs",
    "read_view_1",
    "roc",
    "score_pairs",
    "score_template_pairs",
    "search_among_distractors",
    "searches_of_folders",
    "tar_at_far",
    "threshold_at_far",
    "validation_rate",
    "verify",
    "verify_all_pairs",
    "verify_by_fold",
    "verify_by_value",
    "verify_listed_pairs",
]
