"""Reports: what was measured, as one HTML file that needs nothing else.

`page` knows HTML only; `verification` fills a page with what `evaluate` counted, whatever the
protocol.
"""

from keras_facemargin.report.page import Report
from keras_facemargin.report.verification import Measured, report_all_pairs, report_verification

__all__ = ["Measured", "Report", "report_all_pairs", "report_verification"]
