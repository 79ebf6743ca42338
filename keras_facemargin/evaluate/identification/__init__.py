"""1:N identification: probes are searched in a gallery.

`gallery` runs the search, block by block. `identification` measures closed and open sets,
`distractors` measures searches among distractors, as MegaFace does.
"""

from keras_facemargin.evaluate.identification.distractors import (
    AmongDistractors,
    search_among_distractors,
)
from keras_facemargin.evaluate.identification.gallery import (
    best_of_gallery,
    largest_scores_of_others,
)
from keras_facemargin.evaluate.identification.identification import (
    FPIRS,
    LAST_RANK,
    RANKS,
    Identification,
    TpirAtFpir,
    closed_gallery_rate,
    identify,
    mean_over_galleries,
)

__all__ = [
    "FPIRS",
    "LAST_RANK",
    "RANKS",
    "AmongDistractors",
    "Identification",
    "TpirAtFpir",
    "best_of_gallery",
    "closed_gallery_rate",
    "identify",
    "largest_scores_of_others",
    "mean_over_galleries",
    "search_among_distractors",
]
