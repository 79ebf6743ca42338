"""The verdict on an exported file: does it still compute the trained embedder?"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.files import atomic_write

if TYPE_CHECKING:
    from keras_facemargin.export.decisions import Decisions

_BATCH = 32  # Images per Keras call.
_WARM_UP = 5
_ROUNDS = 30


class Tolerance(NamedTuple):
    """Smallest cosine between the exported and the Keras embedding of an image.

    The cost of a tolerance c: the score of a pair changes by at most sqrt(2 (1 - c)) for each of
    its two images, and by about sqrt(2 (1 - c) / D) if the error points anywhere in D dimensions.
    With c = 0.98, D = 512 that is 0.2 at worst and 0.009 as a rule; thresholds at FAR 1e-3 are near
    0.3.

    Attributes:
        cosine_min: for the worst image.
        cosine_mean: for all images on average.
    """

    cosine_min: float
    cosine_mean: float


@dataclass(frozen=True)
class Verdict:
    """Comparison of an exported file with its Keras embedder.

    Attributes:
        format: `"tflite"` or `"onnx"`.
        precision: `"float32"`, `"float16"`, `"dynamic_int8"` or `"int8"`.
        path: the file written (`<path>.failed` if it did not pass).
        size_bytes: its size.
        num_images: number of images compared.
        cosine_min: lowest cosine to the Keras embedding of the same image.
        cosine_mean: mean of these cosines.
        cosine_low: the cosine that 1 % of the images are below.
        latency_ms: milliseconds per image: median of batch-1 runs that alternate with Keras.
        keras_latency_ms: the same for the float32 Keras embedder, compiled by `tf.function`.
        threads: CPU threads of both.
        tolerance: the required cosines.
        passed: whether the cosines meet the tolerance.
        float_islands: ops of an int8 file that still compute in float, in order, by TFLite name.
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
    float_islands: tuple[str, ...] = ()
    decisions: "Decisions | None" = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return asdict(self) | {
            "tolerance": self.tolerance._asdict(),
            "float_islands": list(self.float_islands),
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
            ("size", f"{self.size_bytes / 1e6:.2f} MB"),
            (
                "latency",
                f"{self.latency_ms:.2f} ms, Keras {self.keras_latency_ms:.2f} ms (one image, "
                f"{self.threads} threads)",
            ),
        ]
        if self.precision == "int8":
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
    """CPU threads that TensorFlow uses for one op; the exported file gets the same number."""
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


def deliver(
    artefact: bytes,
    path: Path,
    run: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    reference: Any,
    images: npt.NDArray[Any],
    *,
    tolerance: Tolerance,
    keep: Path | None = None,
    **facts: Any,
) -> Verdict:
    """Tests an exported file in memory, then writes it to its path or, if it fails, beside it.

    Args:
        artefact: the file's bytes.
        path: the path of the file. Only a file that passes is written there, in one step.
        run: function of one batch of one image, as in `images`, to its `(1, D)` embedding.
        reference: `normalised(embedder)` of the same embedder.
        images: `(N, H, W, 3)`, uint8 or float.
        tolerance: a `Tolerance`.
        keep: where a file that fails is written; None: `<path>.failed`.
        **facts: the other fields of `Verdict`: format, precision, float_islands.

    Returns:
        The `Verdict`.

    Raises:
        ExportError: the file fails; it is written to `keep`.
        ValueError: a Keras embedding is not finite or is zero, or the embeddings are so similar
            that a file which ignores its input would pass.
        OSError: the file cannot be written.
    """
    expected = _reference_embeddings(reference, images)
    _check_reference(expected)
    _check_contrast(expected, tolerance)
    received = np.concatenate([run(images[i : i + 1]) for i in range(len(images))])
    cosine = _cosine(received, expected)
    passed = _meets(cosine, tolerance)
    latency_ms, keras_latency_ms = _alternating_medians(
        lambda: run(images[:1]), lambda: _embed(reference, images[:1])
    )
    place = path if passed else keep or path.with_name(f"{path.name}.failed")
    verdict = Verdict(
        path=str(place),
        size_bytes=len(artefact),
        num_images=len(images),
        cosine_min=float(cosine.min()),
        cosine_mean=float(cosine.mean()),
        cosine_low=float(np.quantile(cosine, 0.01)),
        latency_ms=latency_ms,
        keras_latency_ms=keras_latency_ms,
        threads=threads(),
        tolerance=tolerance,
        passed=passed,
        **facts,
    )
    with atomic_write(place, "wb") as file:
        file.write(artefact)
    if not passed:
        untouched = " the existing file is unchanged;" if path.exists() else ""
        kept = f"Nothing was written to {path};{untouched} the failed file is {place}."
        raise ExportError(f"{_miss(verdict)} {kept}", verdict)
    return verdict


def _miss(verdict: Verdict) -> str:
    """The error for a file that missed its tolerance, and what to do."""
    advice = {
        "float16": "A value may have left float16's range; export float32.",
        "dynamic_int8": "Export float16, at twice the size.",
        "int8": "Pass more and more varied aligned faces as images, or export dynamic_int8 "
        "or float16. Untrained weights quantise badly: test int8 on a trained embedder.",
    }.get(
        verdict.precision,
        "The conversion failed; please report it with the embedder's summary().",
    )
    return (
        f"An exported embedding must have a cosine to Keras' own of at least "
        f"{verdict.tolerance.cosine_min:g} for every image and "
        f"{verdict.tolerance.cosine_mean:g} on average. Received: min "
        f"{verdict.cosine_min:.6f}, mean {verdict.cosine_mean:.6f} over "
        f"{verdict.num_images} images ({verdict.format}, {verdict.precision}). {advice}"
    )


def check_path(path: str | os.PathLike[str], suffix: str) -> Path:
    """Checks, before minutes of work, that a file can be written.

    Args:
        path: the file to write; its folder is created if it is missing.
        suffix: ".tflite" or ".onnx".

    Returns:
        The path, a `Path`.

    Raises:
        ValueError: the path does not end in `suffix`.
        IsADirectoryError: the path is a folder.
        OSError: the folder cannot be created or written to.
    """
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(
            f"The path of this format must end in {suffix!r}. Received: {str(path)!r}. "
            f"Write {str(path.with_suffix(suffix))!r}."
        )
    if path.is_dir():
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


def _embed(reference: Any, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(reference(images.astype("float32"))["embedding"])


def _reference_embeddings(reference: Any, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    batches = range(0, len(images), _BATCH)
    return np.concatenate([_embed(reference, images[i : i + _BATCH]) for i in batches])


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


def _alternating_medians(*functions: Callable[[], Any]) -> list[float]:
    """Median milliseconds of each function; they run in turn, so a busy host slows all equally."""
    times: list[list[float]] = [[] for _ in functions]
    for round_ in range(_WARM_UP + _ROUNDS):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if round_ >= _WARM_UP:
                taken.append(1000.0 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]
