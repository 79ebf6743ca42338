"""Reports: measurements as one self-contained HTML file.

`page` writes HTML. `task` fixes the order of a page: what is measured, shown and recorded. One file
for each kind of list fills it in: `verification` (a list of pairs), `splits` (several lists),
`covariates` (a list by the values of a covariate), `all_pairs` (a set of faces), `searches` (1:N),
`trials` (all pairs and searches), `distractors` and
`degraded` (the crops of a set made worse). Pages share `measures`, `draws` and `sections`;
no page imports another.
"""

from keras_facemargin.report.all_pairs import report_all_pairs
from keras_facemargin.report.covariates import report_covariates
from keras_facemargin.report.degraded import report_degraded
from keras_facemargin.report.distractors import report_distractors
from keras_facemargin.report.measures import Measure, measures_table
from keras_facemargin.report.page import Report
from keras_facemargin.report.searches import report_searches
from keras_facemargin.report.splits import report_splits
from keras_facemargin.report.task import Measured
from keras_facemargin.report.trials import report_trials
from keras_facemargin.report.verification import report_verification

__all__ = [
    "Measure",
    "Measured",
    "Report",
    "measures_table",
    "report_all_pairs",
    "report_covariates",
    "report_degraded",
    "report_distractors",
    "report_searches",
    "report_splits",
    "report_trials",
    "report_verification",
]
