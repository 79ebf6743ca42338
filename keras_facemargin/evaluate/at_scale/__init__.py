"""All pairs of a set, or a long list of pairs: exact rates in bounded memory.

`every_pair` and `listed_pairs` hold the two entry functions. `sweep` computes scores block by
block, `histogram` counts them in float32, and `refine` scores the pairs near a threshold again in
float64. `hardest` keeps the pairs that decide the rates, for intervals.
"""

from keras_facemargin.evaluate.at_scale.every_pair import (
    ALL_PAIRS_LIMIT,
    all_pairs,
    verify_all_pairs,
)
from keras_facemargin.evaluate.at_scale.hardest import TAIL, HardestPairs, hardest_pairs
from keras_facemargin.evaluate.at_scale.histogram import BINS_PER_UNIT, ScoreHistogram
from keras_facemargin.evaluate.at_scale.listed_pairs import (
    HardestListedPairs,
    hardest_listed_pairs,
    verify_listed_pairs,
)
from keras_facemargin.evaluate.at_scale.refine import PairRates

__all__ = [
    "ALL_PAIRS_LIMIT",
    "BINS_PER_UNIT",
    "TAIL",
    "HardestListedPairs",
    "HardestPairs",
    "PairRates",
    "ScoreHistogram",
    "all_pairs",
    "hardest_listed_pairs",
    "hardest_pairs",
    "verify_all_pairs",
    "verify_listed_pairs",
]
