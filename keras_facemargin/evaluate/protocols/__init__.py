"""Official protocols: one file for each family reads its official lists.

A list becomes `Pairs` of images, `TemplatePairs` or `TemplateSearches`, which the other rooms of
`keras_facemargin.evaluate` score and measure. BLUFR, MegaFace and Trillion Pairs have their own
measures. Several families share `lists` and `janus`.
"""

from keras_facemargin.evaluate.protocols.agedb import read_agedb
from keras_facemargin.evaluate.protocols.blufr import (
    Blufr,
    BlufrResult,
    evaluate_blufr,
    measure_blufr,
    read_blufr,
)
from keras_facemargin.evaluate.protocols.calfw import read_calfw, read_cplfw
from keras_facemargin.evaluate.protocols.cfp import read_cfp
from keras_facemargin.evaluate.protocols.ijba import read_ijba, read_ijba_search
from keras_facemargin.evaluate.protocols.ijbc import (
    read_ijb,
    read_ijb_search,
    read_ijbc_covariates,
)
from keras_facemargin.evaluate.protocols.lfw import (
    CATEGORIES,
    View1,
    View1Result,
    evaluate_lfw,
    evaluate_view_1,
    read_pairs,
    read_view_1,
)
from keras_facemargin.evaluate.protocols.megaface import (
    MegaFace,
    evaluate_megaface,
    read_megaface,
)
from keras_facemargin.evaluate.protocols.own_pairs import read_own_pairs
from keras_facemargin.evaluate.protocols.trillion_pairs import (
    read_trillion_pairs,
    write_trillion_pairs,
)
from keras_facemargin.evaluate.protocols.ytf import read_ytf

__all__ = [
    "CATEGORIES",
    "Blufr",
    "BlufrResult",
    "MegaFace",
    "View1",
    "View1Result",
    "evaluate_blufr",
    "evaluate_lfw",
    "evaluate_megaface",
    "evaluate_view_1",
    "measure_blufr",
    "read_agedb",
    "read_blufr",
    "read_calfw",
    "read_cfp",
    "read_cplfw",
    "read_ijb",
    "read_ijb_search",
    "read_ijba",
    "read_ijba_search",
    "read_ijbc_covariates",
    "read_megaface",
    "read_own_pairs",
    "read_pairs",
    "read_trillion_pairs",
    "read_view_1",
    "read_ytf",
    "write_trillion_pairs",
]
