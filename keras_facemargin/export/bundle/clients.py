"""The files of a bundle for the developer of an app: code in four languages, and the README.

They are written from `templates/`, where a word between two `@` is a value of the manifest.
"""

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from keras_facemargin.export.bundle.manifest import Manifest, ModelEntry
from keras_facemargin.zoo.parts import DEFAULT_FAR, nearest_far


class _Client(NamedTuple):
    """A piece of code.

    Attributes:
        language: in the README.
        formats: of the model files that it can run.
        pair: two numbers as its language writes them.
        needs: packages.
        tested: how.
    """

    language: str
    formats: tuple[str, ...]
    pair: str
    needs: str
    tested: str


_RUN = "run in the tests of keras_facemargin"
_CLIENTS = {
    "face_embedder.py": _Client(
        "Python", ("tflite", "onnx"), "[{}, {}]", "numpy and the runtime of the file", _RUN
    ),
    "face_embedder.mjs": _Client(
        "JavaScript, for browsers and Node",
        ("onnx",),
        "[{}, {}]",
        "onnxruntime-web or onnxruntime-node",
        f"{_RUN}, in Node",
    ),
    "FaceEmbedder.kt": _Client(
        "Kotlin, for Android",
        ("tflite",),
        "doubleArrayOf({}, {})",
        "LiteRT",
        f"{_RUN}, on a Java machine without Android",
    ),
    "FaceEmbedder.swift": _Client(
        "Swift, for iOS",
        ("tflite",),
        "[{}, {}]",
        "TensorFlowLiteSwift",
        "parsed, not compiled: run its self-test",
    ),
}
_WORD = re.compile(r"@([A-Z_]+)@")


def write_clients(directory: Path, manifest: Manifest, *, page: bool) -> None:
    """Writes the code for the formats that a bundle has, and the README.

    The code aligns by the template of the crop; for a crop without one only the README is written.

    Args:
        directory: the folder.
        manifest: its manifest.
        page: whether the folder gets a page.
    """
    values = {
        "NAME": manifest.name,
        "MADE_BY": manifest.made_by,
        "HEIGHT": str(manifest.crop.height),
        "WIDTH": str(manifest.crop.width),
    }
    code = {}
    for name, client in _CLIENTS.items():
        models = [one for one in manifest.models if one.format in client.formats]
        if models and manifest.crop.points is not None:
            code[name] = models[0]
            numbers = _numbers(models[0], client, manifest.crop.points)
            _write(directory, name, values | numbers)
    _write(directory, "README.md", values | _sections(manifest, code, page))


def _write(directory: Path, name: str, values: dict[str, str]) -> None:
    text = _WORD.sub(lambda word: values[word[1]], _template(f"{name}.in"))
    (directory / name).write_text(text, encoding="utf-8")


def _template(name: str) -> str:
    folder = resources.files("keras_facemargin.export.bundle").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")


def _numbers(
    model: ModelEntry, client: _Client, points: tuple[tuple[float, float], ...]
) -> dict[str, str]:
    """The values of the model file that a piece of code runs."""
    found = model.thresholds
    thresholds = [] if found is None else [one for one in found.single if one.group is None]
    return {
        "MODEL": model.file,
        "EXPECTED": model.expected,
        "RUNTIME": {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}[model.format],
        "DIM": str(model.output.embedding_dim),
        "DTYPE": model.input.dtype,
        "BYTES": str(model.input.dtype == "uint8").lower(),
        "EMBEDDING_ID": model.embedding_id,
        "POINTS": _pairs(client, points),
        "THRESHOLDS": _pairs(client, ((one.far, round(one.cosine, 4)) for one in thresholds)),
        "WHOSE": "are missing: calibrate" if found is None else f"of {found.of}",
        "FAR": repr(DEFAULT_FAR if found is None else nearest_far(found.single).far),
    }


def _pairs(client: _Client, pairs: Iterable[tuple[float, float]]) -> str:
    return ", ".join(client.pair.format(*pair) for pair in pairs)


def _sections(manifest: Manifest, code: dict[str, ModelEntry], page: bool) -> dict[str, str]:
    """The parts of the README that depend on the bundle."""
    return {
        "DESCRIPTION": manifest.description,
        "FILES": _table(
            ("file", "content"),
            [
                *(
                    (f"`{one.file}`", f"the embedder, {one.format} {one.precision}")
                    for one in manifest.models
                ),
                (
                    "`manifest.json`",
                    "all of this for programs; `manifest.schema.json` is its schema",
                ),
                ("`verdict.html`", "how the files compare with the embedder before the export"),
                ("`selftest/`", "two crops, a photo, and the embeddings that the model must give"),
                *((f"`{name}`", f"code: {_CLIENTS[name].language}") for name in code),
                *([("`web/`", "a page that compares two photos in a browser")] if page else []),
            ],
        ),
        "PAGE": _template("page.md") if page else "",
        "STEPS": _steps(manifest),
        "CODE": _table(
            ("code", "runs", "needs", "tested"),
            [
                (f"`{name}`", f"`{model.file}`", _CLIENTS[name].needs, _CLIENTS[name].tested)
                for name, model in code.items()
            ],
        )
        + "\n\nEach file begins with an example."
        if code
        else "This bundle has no code: none fits these files and this crop.",
        "MODELS": "\n\n".join(map(_about, manifest.models)),
        "THRESHOLDS": "\n\n".join(map(_thresholds, manifest.models)),
        "DETECTORS": _template("detectors.md").strip(),
        "LICENSE": _license(manifest) + (_template("detector_license.md") if page else ""),
        "CAUTION": manifest.caution,
    }


def _steps(manifest: Manifest) -> str:
    """The steps from a photo to the crop."""
    size = f"{manifest.crop.height} x {manifest.crop.width} pixels (height x width)"
    if manifest.crop.points is None:
        return (
            "1. **Face.** Find the face with the detector that the embedder was trained with.\n"
            f"2. **Crop.** Cut out {size} as in the training of the embedder: its crop has no\n"
            "   template of points."
        )
    return (
        "1. **Points.** Find five points of the face with a detector of your platform: left eye,\n"
        "   right eye, nose, left and right mouth corner, left and right as a viewer of the photo\n"
        "   sees them. See [Detectors](#detectors).\n"
        "2. **Crop.** `align(photo, points)` turns, scales and shifts the face into a crop of\n"
        f"   {size} so that the points are at fixed places. Do not cut out the detector's box."
    )


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (header, ("---",) * len(header), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _about(model: ModelEntry) -> str:
    """The input, the output and the verdict of a model file."""
    shape = " x ".join("batch" if side is None else str(side) for side in model.input.shape)
    kind = "bytes (uint8)" if model.input.dtype == "uint8" else "float32 numbers 0..255, not 0..1"
    length = "unit length" if model.output.normalised else "nearly unit length: compare the cosine"
    verdict = model.verdict
    rows = [
        ("size", f"{model.bytes / 1e6:.2f} MB, {model.format} {model.precision}"),
        ("input", f"`{model.input.name}`: {shape} (NHWC), RGB, {kind}"),
        (
            "output",
            f"`{model.output.name}`: {model.output.embedding_dim} float32 numbers, {length}",
        ),
        (
            "cosine to Keras",
            f"least {verdict['cosine_min']:.6f}, mean {verdict['cosine_mean']:.6f}, over "
            f"{verdict['num_images']} images",
        ),
        ("embedding id", f"`{model.embedding_id}`"),
    ]
    return f"{_table((f'`{model.file}`', ''), rows)}"


def _thresholds(model: ModelEntry) -> str:
    """The thresholds of a model file and their origin."""
    found = model.thresholds
    if found is None:
        return (
            f"`{model.file}` has no thresholds: do not decide anything with it. Export again with "
            "`--calibrate FOLDER`, a folder of aligned crops with one folder for each person."
        )
    rows = [
        (
            f"{one.far:g}" if one.group is None else f"{one.far:g}, {one.group}",
            f"{one.cosine:.4f}",
            f"{one.tar:.2%}",
            f"{one.impostor_pairs:,}",
            one.data,
        )
        for one in found.single
    ]
    origin = (
        "calibrated on the embeddings of this very file"
        if found.of == "this file"
        else "those of the Keras embedder, **not calibrated on this file**"
        + (": an int8 file needs its own" if "int8" in model.precision else "")
    )
    header = ("FAR", "least cosine", "genuine pairs accepted", "impostor pairs", "data")
    return f"`{model.file}`: {origin}.\n\n{_table(header, rows)}"


def _license(manifest: Manifest) -> str:
    entries = [f"- {entry}" for entry in manifest.license] or ["- The ledger is empty."]
    use = (
        "The ledger clears commercial use."
        if manifest.commercial_use
        else "The ledger does not clear commercial use:"
    )
    return "\n".join(
        [*entries, "", use, "", *(f"- {each}" for each in manifest.commercial_obstacles)]
    ).strip()
