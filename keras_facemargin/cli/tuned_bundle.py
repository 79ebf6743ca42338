"""`finetune --export`: the bundle of a fine-tuned embedder, tested on its people."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from keras_facemargin.cli.console import say, show_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from keras_facemargin.training.finetune import Comparison, FineTuned

_MOST = 256  # crops that set the ranges of int8 and test the files
_WITH_INT8 = {"embedder_int8.tflite": "int8"}


@dataclasses.dataclass
class _People:
    """The strangers that test, as `export_bundle` takes labelled crops."""

    paths: "npt.NDArray[Any]"
    labels: "npt.NDArray[np.int32]"


def check_exportable(embedder: Any, bundle: Path) -> None:
    """Refuses, before the training, what cannot be exported afterwards.

    Raises:
        FileExistsError: the folder is in use.
        ExportError: Keras runs on a backend that TFLite cannot be written from.
        ValueError: the embedder has another interface.
        ImportError: a package is missing.
    """
    from keras_facemargin.export.bundle.write import FILES
    from keras_facemargin.export.formats import format_of, require
    from keras_facemargin.export.graph import check_backend, float32_embedder
    from keras_facemargin.files import check_unused

    check_unused(bundle)
    for name, precision in (FILES | _WITH_INT8).items():
        format = format_of(name, precision)
        require(format, check_backend(format.container))
    float32_embedder(embedder)


def export_tuned(tuned: "FineTuned", output: Path, bundle: Path) -> None:
    """Exports the kept embedder, and tests each file on the people of the fine-tuning.

    Args:
        tuned: the result.
        output: folder of the embedder and its card; its report gets the measures of the files.
        bundle: folder to write.
    """
    from keras_facemargin.export import export_bundle
    from keras_facemargin.export.bundle.write import FILES
    from keras_facemargin.export.write import MIN_REPRESENTATIVE
    from keras_facemargin.files import write_json
    from keras_facemargin.training.finetune.known import REPORT
    from keras_facemargin.zoo import find_card, open_embedder

    images = _crops(tuned)
    files = dict(FILES)
    if len(images) >= MIN_REPRESENTATIVE:
        files |= _WITH_INT8
    else:
        say(
            f"The bundle has no int8 file: its ranges need {MIN_REPRESENTATIVE} images that train "
            f"or test. Received: {len(images)}",
            style="yellow",
        )
    people = _People(*tuned.strangers)
    chosen = tuned.thresholds.find(mirrored=False)
    export_bundle(
        tuned.classifier.embedder,
        bundle,
        files=files,
        card=find_card(output),
        images=images,
        people=people,
        fars=[chosen.far],
    )
    found = {name: tuned.compare(open_embedder(bundle / name)) for name in files}
    _print(tuned, found)
    report = output / REPORT
    record = json.loads(report.read_text(encoding="utf-8"))
    record["exported"] = {
        name: [dataclasses.asdict(each) for each in comparison.measures]
        for name, comparison in found.items()
    }
    write_json(report, record)
    say(f"{bundle}/README.md is for the developer of the app")
    say(f"facemargin bundle check {bundle} verifies it")


def _crops(tuned: "FineTuned") -> "npt.NDArray[np.uint8]":
    """Crops of your people, of all of them alike, whether they train or test."""
    import numpy as np

    from keras_facemargin.images import Crop, read_face

    paths = [*tuned.parts.training.paths, *tuned.parts.test.paths]
    crop = Crop.of_embedder(tuned.classifier.embedder)
    spread = paths[:: -(-len(paths) // _MOST)]
    return np.stack([read_face(path, crop) for path in spread])


def _print(tuned: "FineTuned", found: "dict[str, Comparison]") -> None:
    table = Table("", "Before", "Fine-tuned", *found)
    kept = tuned.comparison.measures
    for number, measure in enumerate(kept):
        after = measure.after if tuned.share else measure.before
        values = [each.measures[number].after for each in found.values()]
        table.add_row(measure.name, *(f"{value:.2%}" for value in (measure.before, after, *values)))
    show_table(table)
