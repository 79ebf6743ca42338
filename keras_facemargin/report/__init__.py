"""Reports: what was measured, as one HTML file that needs nothing else.

`page` knows HTML only; `verification` fills a page with what `evaluate` counted.
"""

from keras_facemargin.report.page import Report

__all__ = ["Report"]
