"""Reports: measurements as one self-contained HTML file.

`page` knows HTML only. A file for each kind of task fills a page with what `evaluate` counted,
whatever the protocol: `verification` of a list of pairs, `splits` of several lists, `covariates` of
a list value by value, `all_pairs` of a set, `searches` in galleries, `trials` of both,
`distractors` among strangers. What several say the same way stands in `measures`, `thresholds`,
`groups` and `hardest`.
"""

from keras_facemargin.report.all_pairs import MeasuredSet, report_all_pairs
from keras_facemargin.report.covariates import MeasuredValues, report_covariates
from keras_facemargin.report.distractors import MeasuredAmongDistractors, report_distractors
from keras_facemargin.report.measures import Measure, measures_table
from keras_facemargin.report.page import Report
from keras_facemargin.report.searches import MeasuredSearches, report_searches
from keras_facemargin.report.splits import MeasuredSplits, report_splits
from keras_facemargin.report.trials import MeasuredTrials, report_trials
from keras_facemargin.report.verification import Measured, report_verification

__all__ = [
    "Measure",
    "Measured",
    "MeasuredAmongDistractors",
    "MeasuredSearches",
    "MeasuredSet",
    "MeasuredSplits",
    "MeasuredTrials",
    "MeasuredValues",
    "Report",
    "measures_table",
    "report_all_pairs",
    "report_covariates",
    "report_distractors",
    "report_searches",
    "report_splits",
    "report_trials",
    "report_verification",
]
