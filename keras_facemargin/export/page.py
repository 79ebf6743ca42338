"""The page of a verdict."""

import os
from collections.abc import Sequence
from pathlib import Path

from keras_facemargin.export.verdict import Verdict
from keras_facemargin.report.page import Report


def write_verdicts(path: str | os.PathLike[str], name: str, verdicts: Sequence[Verdict]) -> Path:
    """Writes the verdicts of the files of an embedder as one HTML page.

    Args:
        path: the page.
        name: of the embedder.
        verdicts: one for each file.

    Returns:
        The path of the page.

    Raises:
        OSError: the page cannot be written.
    """
    report = Report(f"Export of {name}")
    report.paragraph(
        "Each file is run beside the Keras embedder on the same crops. The cosine is that of the "
        "two embeddings of one image."
    )
    for one in verdicts:
        outcome = "passed" if one.passed else "failed"
        report.heading(f"{Path(one.path).name}: {one.format} {one.precision}, {outcome}")
        report.table(("measure", "value"), one.rows())
    if any(one.decisions for one in verdicts):
        report.heading("Decisions")
        report.paragraph(
            "Every pair of the labelled crops is decided before and after the export, by the "
            "embeddings of the images alone. TAR is the share of the pairs of one person that a "
            "threshold accepts, FAR that of the pairs of two people. 'Flipped, kept' counts the "
            "pairs whose answer changes if an app keeps the threshold that was calibrated before; "
            "'flipped, own' those that change with a threshold calibrated on the file. Genuine -3 "
            "+1: three pairs of one person are no longer accepted, one is now; impostor +2 -0: two "
            "pairs of two people are now accepted."
        )
    return report.write(path)
