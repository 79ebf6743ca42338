"""The report of degraded faces: one table for each embedder."""

import os
from collections.abc import Iterable, Mapping

from keras_facemargin.evaluate.degraded import Degraded
from keras_facemargin.evaluate.plots import plot_degraded
from keras_facemargin.files import write_json
from keras_facemargin.report.page import Report
from keras_facemargin.report.task import page_file, require_embedders


def report_degraded(
    output: str | os.PathLike[str],
    results: Mapping[str, Degraded],
    *,
    title: str,
    about: Iterable[str] = (),
) -> None:
    """Writes an HTML page and a JSON file on degraded faces.

    Args:
        output: the page, ``*.html``. The JSON file has the same name and the suffix ``.json``.
        results: embedder's name -> its `Degraded`.
        title: title of the page.
        about: paragraphs on the data and the method.

    Raises:
        ValueError: if `output` is not ``*.html``, or there is no embedder.
        ImportError: if matplotlib is missing.
        OSError: if a file cannot be written.
    """
    output, about = page_file(output), list(about)
    require_embedders(results, "results")
    page = Report(title)
    page.paragraph(
        "The threshold is that of clean crops. Then the crops are shrunk to a number of pixels and "
        "enlarged again (28px), blurred by a Gaussian of a deviation in pixels (blur2), or saved "
        "as a JPEG of a quality (jpeg8). FMR / target: how many times too many pairs of two people "
        "are accepted. FNMR: share of the pairs of one person that are rejected."
    )
    for text in about:
        page.paragraph(text)
    for name, result in results.items():
        page.heading(name)
        page.table(*result.table(), result.about())
        page.figure(
            plot_degraded(result),
            "Accepted pairs of two people, as a multiple of the target, both crops degraded. "
            "Dashed: the target and three times the target.",
        )
    page.write(output)
    record = {
        "title": title,
        "about": about,
        "models": {name: result.to_dict() for name, result in results.items()},
    }
    write_json(output.with_suffix(".json"), record)
