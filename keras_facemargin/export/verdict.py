"""The verdict on an exported file: does it still compute the trained embedder?"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_facemargin.export.formats import Format, Tolerance, find_format
from keras_facemargin.files import atomic_write, check_unused, draft_folder

if TYPE_CHECKING:
    from keras_facemargin.export.costs import Costs
    from keras_facemargin.export.decisions import Decisions

# The bytes of a file, or those of the files of a folder by their path in it.
Artefact: TypeAlias = bytes | dict[str, bytes]
Run: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
_BATCH = 32  # Images per Keras call.
_WARM_UP = 5
_ROUNDS = 30


class Op(NamedTuple):
    """An op of a file: its name, and whether it computes in float."""

    name: str
    is_float: bool


@dataclass(frozen=True)
class Verdict:
    """Comparison of an exported file with its Keras embedder.

    Attributes:
        format: `"tflite"`, `"onnx"`, `"savedmodel"` or `"openvino"`.
        precision: as `export_embedder` takes it.
        path: the file written (`<path>.failed` if it did not pass).
        size_bytes: its size.
        num_images: number of images compared.
        cosine_min: lowest cosine to the Keras embedding of the same image.
        cosine_mean: mean of these cosines.
        cosine_low: the cosine that 1 % of the images are below.
        latency_ms: milliseconds per image: median of batch-1 runs that alternate with Keras.
        keras_latency_ms: the same for the float32 Keras embedder, compiled.
        threads: CPU threads of both.
        tolerance: the required cosines.
        passed: whether the cosines meet the tolerance in every runtime.
        ops: the number of ops of each kind in the file, by the names of its format.
        float_islands: ops of a calibrated file that still compute in float, in order.
        other_runtimes: least cosine in each other runtime that opens the file, by its name.
        costs: memory and latency; None if they were not measured.
        decisions: what becomes of the answers about pairs; None if no labelled faces were given.
    """

    format: str
    precision: str
    path: str
    size_bytes: int
    num_images: int
    cosine_min: float
    cosine_mean: float
    cosine_low: float
    latency_ms: float
    keras_latency_ms: float
    threads: int
    tolerance: Tolerance
    passed: bool
    ops: Mapping[str, int] = field(default_factory=dict)
    float_islands: tuple[str, ...] = ()
    other_runtimes: Mapping[str, float] = field(default_factory=dict)
    costs: "Costs | None" = None
    decisions: "Decisions | None" = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return asdict(self) | {
            "tolerance": self.tolerance._asdict(),
            "float_islands": list(self.float_islands),
            "costs": None if self.costs is None else self.costs.to_dict(),
            "decisions": None if self.decisions is None else self.decisions.to_dict(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = [
            (
                "cosine to Keras",
                f"min {self.cosine_min:.6f}, 1 % {self.cosine_low:.6f}, mean "
                f"{self.cosine_mean:.6f} over {self.num_images} images (required: min "
                f"{self.tolerance.cosine_min:g}, mean {self.tolerance.cosine_mean:g})",
            ),
            *((f"in {name}", f"min {cosine:.6f}") for name, cosine in self.other_runtimes.items()),
            ("size", f"{self.size_bytes / 1e6:.2f} MB"),
            (
                "latency",
                f"{self.latency_ms:.2f} ms, Keras {self.keras_latency_ms:.2f} ms (one image, "
                f"{self.threads} threads)",
            ),
        ]
        if self.costs is not None:
            rows += self.costs.rows()
        if self.ops:
            rows.append(("ops", ", ".join(f"{self.ops[name]} {name}" for name in self.ops)))
        if find_format(f"{self.format}-{self.precision}").calibrated:
            rows.append(("float islands", ", ".join(self.float_islands) or "none"))
        return rows + ([] if self.decisions is None else self.decisions.rows())

    def __str__(self) -> str:
        head = f"{self.path}: {self.format} {self.precision}, "
        lines = [f"  {name:<16} {value}" for name, value in self.rows()]
        return "\n".join([head + ("passed" if self.passed else "FAILED"), *lines])


class ExportError(RuntimeError):
    """An embedder cannot be written in a format, or the file is too far from it.

    Attributes:
        verdict: the `Verdict` of the failed file, with its `path`; None without a file.
    """

    def __init__(self, message: str, verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict


def threads() -> int:
    """CPU threads that Keras uses for one op; the exported file gets the same number."""
    tensorflow = sys.modules.get("tensorflow")
    own = tensorflow and tensorflow.config.threading.get_intra_op_parallelism_threads()
    return own or os.cpu_count() or 1


def deliver(
    artefact: Artefact,
    path: Path,
    run: Run,
    reference: Run,
    images: npt.NDArray[Any],
    *,
    format: Format,
    tolerance: Tolerance | None = None,
    other_rows: Mapping[str, npt.NDArray[Any]] | None = None,
    keep: Path | None = None,
    **facts: Any,
) -> Verdict:
    """Tests an exported file in memory, then writes it to its path or, if it fails, beside it.

    Args:
        artefact: the file's bytes.
        path: the path of the file. Only a file that passes is written there, in one step.
        run: function of one batch of one image, as in `images`, to its `(1, D)` embedding.
        reference: function of images to the `(B, D)` embeddings of the same embedder in Keras.
        images: `(N, H, W, 3)`, uint8 or float.
        format: its `Format`.
        tolerance: a `Tolerance`; None: that of the format.
        other_rows: other runtime -> its embeddings of the images, which must pass too.
        keep: where a file that fails is written; None: `<path>.failed`.
        **facts: other fields of `Verdict`: ops, float_islands.

    Returns:
        The `Verdict`.

    Raises:
        ExportError: the file fails; it is written to `keep`.
        ValueError: a Keras embedding is not finite or is zero, or the embeddings are so similar
            that a file which ignores its input would pass.
        OSError: the file cannot be written.
    """
    tolerance = tolerance or format.tolerance
    batches = range(0, len(images), _BATCH)
    expected = np.concatenate([reference(images[i : i + _BATCH]) for i in batches])
    _check_reference(expected)
    _check_contrast(expected, tolerance)
    runtime = format.container.runtime
    received = {
        runtime: np.concatenate([run(images[i : i + 1]) for i in range(len(images))]),
        **(other_rows or {}),
    }
    cosines = {name: _cosine(rows, expected) for name, rows in received.items()}
    passed = all(_meets(each, tolerance) for each in cosines.values())
    latency_ms, keras_latency_ms = alternating_medians(
        lambda: run(images[:1]), lambda: reference(images[:1])
    )
    place = path if passed else keep or path.with_name(f"{path.name}.failed")
    cosine = cosines.pop(runtime)
    verdict = Verdict(
        format=format.container.name,
        precision=format.precision,
        path=str(place),
        size_bytes=sum(map(len, _files(artefact).values())),
        num_images=len(images),
        cosine_min=float(cosine.min()),
        cosine_mean=float(cosine.mean()),
        cosine_low=float(np.quantile(cosine, 0.01)),
        latency_ms=latency_ms,
        keras_latency_ms=keras_latency_ms,
        threads=threads(),
        tolerance=tolerance,
        passed=passed,
        other_runtimes={name: float(each.min()) for name, each in cosines.items()},
        **facts,
    )
    if not passed and place.is_dir():
        shutil.rmtree(place)  # of an earlier export that failed
    write_artefact(artefact, place)
    if not passed:
        untouched = " the existing file is unchanged;" if path.is_file() else ""
        kept = f"Nothing was written to {path};{untouched} the failed file is {place}."
        faults = {name: fault for name, rows in received.items() if (fault := _fault_of(rows))}
        raise ExportError(f"{_miss(verdict, faults)} {kept}", verdict)
    return verdict


def write_artefact(artefact: Artefact, path: Path) -> None:
    """Writes a file, or a folder that is not in use, in one step."""
    if isinstance(artefact, bytes):
        with atomic_write(path, "wb") as file:
            file.write(artefact)
        return
    with draft_folder(path) as draft:
        for name, content in artefact.items():
            place = draft / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their path in it."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _files(artefact: Artefact) -> dict[str, bytes]:
    return {"": artefact} if isinstance(artefact, bytes) else artefact


def _fault_of(embeddings: npt.NDArray[Any]) -> str:
    """What no embedder gives, in words; "" if the embeddings are finite and differ."""
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        count = np.count_nonzero(~finite)
        return f"numbers that are not finite for {count} of {len(embeddings)} images"
    if (embeddings == embeddings[:1]).all():
        return f"the same embedding for all {len(embeddings)} images"
    return ""


def _miss(verdict: Verdict, faults: dict[str, str]) -> str:
    """The error for a file that missed its tolerance, and what to do."""
    if faults:
        found = "; ".join(f"{fault} in {runtime}" for runtime, fault in faults.items())
        return (
            "An exported file must give finite numbers, and another embedding for another image. "
            f"Received: {found} ({verdict.format}, {verdict.precision}). Do not use this "
            "precision for this embedder: export float32."
        )
    advice = {
        "float16": "A value may have left float16's range; export float32.",
        "dynamic_int8": "Export float16, at twice the size.",
        "weight_int8": "Export float16, at twice the size.",
        "int16x8": "Export float16, at twice the size.",
        "int8": "Pass more and more varied aligned faces as images, train with the rounding inside "
        "(tune=crops, --tune FOLDER), or export tflite-dynamic_int8: integers throughout do not "
        "suit attention and layer normalisation. Untrained weights quantise badly: test int8 on a "
        "trained embedder.",
    }.get(
        verdict.precision,
        "The conversion failed; please report it with the embedder's summary().",
    )
    others = "".join(f"; in {name} min {c:.6f}" for name, c in verdict.other_runtimes.items())
    return (
        f"An exported embedding must have a cosine to Keras' own of at least "
        f"{verdict.tolerance.cosine_min:g} for every image and "
        f"{verdict.tolerance.cosine_mean:g} on average. Received: min "
        f"{verdict.cosine_min:.6f}, mean {verdict.cosine_mean:.6f} over "
        f"{verdict.num_images} images ({verdict.format}, {verdict.precision}{others}). {advice}"
    )


def check_path(path: str | os.PathLike[str], suffix: str, *, folder: bool = False) -> Path:
    """Checks, before minutes of work, that a file can be written.

    Args:
        path: the file to write; its folder is created if it is missing.
        suffix: such as ".tflite".
        folder: whether a folder is written; it must not exist, or be empty.

    Returns:
        The path, a `Path`.

    Raises:
        ValueError: the path does not end in `suffix`.
        IsADirectoryError: the path of a file is a folder.
        FileExistsError: the folder is in use.
        OSError: the folder cannot be created or written to.
    """
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(
            f"The path of this format must end in {suffix!r}. Received: {str(path)!r}. "
            f"Write {str(path.with_suffix(suffix))!r}."
        )
    if folder:
        check_unused(path)
    elif path.is_dir():
        raise IsADirectoryError(
            f"`path` must be a file to write. Received: the folder {str(path)!r}. Name a file "
            f"inside it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    return path


def _cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Row-wise cosine in float64; 0 where a row is all zeros."""
    a, b = a.astype("float64"), b.astype("float64")
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.where(norms == 0.0, 1.0, norms))


def _meets(cosine: npt.NDArray[Any], tolerance: Tolerance) -> bool:
    # NaN compares false: an embedding with NaN in it fails.
    return bool(cosine.min() >= tolerance.cosine_min and cosine.mean() >= tolerance.cosine_mean)


def _check_reference(embeddings: npt.NDArray[Any]) -> None:
    wrong = ~(np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1))
    if wrong.any():
        raise ValueError(
            "Every Keras embedding must be finite and not zero. Received: "
            f"{wrong.sum()} of {len(embeddings)} images whose embedding is not, the first at index "
            f"{np.argmax(wrong)}. The embedder is damaged or untrained: repair it before the "
            "export."
        )


def _check_contrast(embeddings: npt.NDArray[Any], tolerance: Tolerance) -> None:
    constant = np.broadcast_to(embeddings.mean(axis=0), embeddings.shape)
    if _meets(_cosine(constant, embeddings), tolerance):
        raise ValueError(
            "The images that test a file must have different Keras embeddings, or a file that "
            f"ignores its input would pass. Received: {len(embeddings)} images whose embeddings "
            "are (nearly) equal. Pass images of several people. If these are, the embedder is "
            "untrained or has collapsed."
        )


def alternating_medians(*functions: Callable[[], Any]) -> list[float]:
    """Median milliseconds of each function; they run in turn, so a busy host slows all equally."""
    times: list[list[float]] = [[] for _ in functions]
    for round_ in range(_WARM_UP + _ROUNDS):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if round_ >= _WARM_UP:
                taken.append(1000.0 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]
