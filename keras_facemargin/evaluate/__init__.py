"""Scores in, measures out: how well an embedder tells people apart.

This door has the names for the usual tasks. Each room below has the rest, with its own door:

- `verification` (1:1): pairs, the exact ROC, TAR at FAR, accuracy, other codes' conventions.
- `identification` (1:N): searches in a gallery, open sets, distractors.
- `at_scale`: all pairs of a set, or millions of listed pairs, exact and in bounded memory.
- `uncertainty`: confidence intervals, and error rates by group.
- `protocols`: a file for each family of official lists.

Modules beside them: `embedding` (images to embeddings), `cosine` (embeddings to scores),
`compactness` (the spread within people),
`templates` (several images of a person), `splits` (means over splits), `discard` (the worth of a
quality score), `degraded` (small and blurred crops) and `plots`.
"""

from keras_facemargin.evaluate.at_scale import all_pairs, verify_all_pairs
from keras_facemargin.evaluate.compactness import angular_fisher_score
from keras_facemargin.evaluate.cosine import cosine_scores
from keras_facemargin.evaluate.degraded import draw_people, measure_degraded
from keras_facemargin.evaluate.discard import error_versus_discard
from keras_facemargin.evaluate.embedding import embed
from keras_facemargin.evaluate.identification import identify
from keras_facemargin.evaluate.plots import plot_hardest_pairs, plot_roc, plot_scores
from keras_facemargin.evaluate.protocols import evaluate_lfw, read_own_pairs, read_pairs
from keras_facemargin.evaluate.templates import (
    evaluate_searches,
    search_embeddings,
    searches_of_folders,
)
from keras_facemargin.evaluate.uncertainty import bootstrap, interval, rates_by_group, read_groups
from keras_facemargin.evaluate.verification import (
    Pairs,
    Verification,
    equal_error_rate,
    evaluate_pairs,
    roc,
    score_pairs,
    tar_at_far,
    verify,
)

__all__ = [
    "Pairs",
    "Verification",
    "all_pairs",
    "angular_fisher_score",
    "bootstrap",
    "cosine_scores",
    "draw_people",
    "embed",
    "equal_error_rate",
    "error_versus_discard",
    "evaluate_lfw",
    "evaluate_pairs",
    "evaluate_searches",
    "identify",
    "interval",
    "measure_degraded",
    "plot_hardest_pairs",
    "plot_roc",
    "plot_scores",
    "rates_by_group",
    "read_groups",
    "read_own_pairs",
    "read_pairs",
    "roc",
    "score_pairs",
    "search_embeddings",
    "searches_of_folders",
    "tar_at_far",
    "verify",
    "verify_all_pairs",
]
