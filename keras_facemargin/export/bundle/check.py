"""Checks a bundle, and the program of an app that uses it."""

import dataclasses
import json
import math
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.export.bundle.manifest import (
    Expected,
    GoldenPhoto,
    Manifest,
    ModelEntry,
    read_expected,
    read_manifest,
)
from keras_facemargin.export.bundle.selftest import CONSTANT, SHIFTED, Diagnosis, diagnose, unit
from keras_facemargin.images.align import align_face
from keras_facemargin.runtime.file import one_line
from keras_facemargin.runtime.onnx import open_session as open_onnx
from keras_facemargin.runtime.tflite import open_session as open_tflite
from keras_facemargin.zoo.card import digest_of

Floats = npt.NDArray[np.float64]
_OPEN = {"onnx": open_onnx, "tflite": open_tflite}
DAMAGED = "damaged file"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One step of a check.

    Attributes:
        step: a file, or the program on the golden crops or the golden photo.
        faults: names of the faults; empty: the step passed.
        words: one sentence.
        cosines: to the expected embeddings; empty for a digest.
    """

    step: str
    faults: tuple[str, ...]
    words: str
    cosines: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class CheckedBundle:
    """Result of `check_bundle`.

    Attributes:
        directory: the bundle.
        findings: one for each step.
    """

    directory: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every step passed."""
        return not any(one.faults for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        found = dataclasses.asdict(self)
        return {"passed": self.passed, **json.loads(json.dumps(found))}


def check_bundle(
    directory: str | os.PathLike[str],
    *,
    runner: str | None = None,
    model: str | None = None,
    photo: bool = False,
    timeout: float = 60.0,
) -> CheckedBundle:
    """Verifies a bundle, and names what is wrong with the program of an app that uses it.

    Every digest is compared, and every model file embeds the golden crops and the golden photo in
    its own runtime. With `runner`, the app's program embeds them too: it is started as
    `PROGRAM crop_1.png` and prints the embedding as a JSON list of numbers in the last line of its
    standard output. Beside each `.png` the same pixels are in a `.rgb` file of raw bytes. Its
    embeddings name the fault: "BGR", "0..1", "normalised twice", "NCHW", "shifted crop", "constant
    output", or "unknown fault".

    Args:
        directory: the folder that `export_bundle` wrote.
        runner: the program and its arguments, as a shell would split them; no shell is started.
        model: name of the model file that the program runs. Default: the only one whose expected
            embeddings the program's are nearest to.
        photo: whether to start the program on the photo, too, with the ten coordinates of the five
            points as arguments; it must align the face.
        timeout: seconds that one run of the program may take.

    Returns:
        A `CheckedBundle`.

    Raises:
        FileNotFoundError, ValueError: as `read_manifest`; the program does not exist, fails, takes
            too long, or does not print an embedding of the right length; `photo` is set and the
            bundle has no photo; no model file has the name `model`.
        ImportError: the runtime of a model file is not installed.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    chosen = _choose(manifest, model)
    if photo and (runner is None or manifest.selftest.photo is None):
        raise ValueError(
            "The photo is for a program that aligns faces. Received: photo=True "
            + ("without a runner." if runner is None else "for a crop without a template.")
        )
    findings = _digests(directory, manifest)
    if any(one.faults for one in findings):  # nothing else can be trusted
        return CheckedBundle(str(directory), tuple(findings))
    expected = {one.file: read_expected(directory, one) for one in manifest.models}
    for entry in manifest.models:
        findings += _files_own(directory, manifest, entry, expected[entry.file])
    if runner is not None:
        program = _Program(runner, timeout, {one.output.embedding_dim for one in chosen})
        findings += _programs(
            program, directory, manifest, {one.file: expected[one.file] for one in chosen}, photo
        )
    return CheckedBundle(str(directory), tuple(findings))


def _choose(manifest: Manifest, model: str | None) -> list[ModelEntry]:
    chosen = [one for one in manifest.models if model in (None, one.file)]
    if not chosen:
        names = ", ".join(one.file for one in manifest.models)
        raise ValueError(
            f"`model` must be a model file of the bundle: {names}. Received: {model!r}"
        )
    return chosen


def _digests(directory: Path, manifest: Manifest) -> list[Finding]:
    listed = {one.file for one in manifest.models} | {one.expected for one in manifest.models}
    for image in (*manifest.selftest.crops, manifest.selftest.photo):
        listed |= set() if image is None else {image.png, image.rgb}
    findings = []
    every = sorted(listed | set(manifest.digests))
    for name in every:
        path, digest = directory / name, manifest.digests.get(name)
        if digest is None:
            words = "the manifest has no digest of it"
        elif not path.is_file():
            words = "the file is missing"
        elif digest_of(path) != digest:
            words = "the file is not the one that was exported: its SHA-256 differs"
        else:
            continue
        findings.append(Finding(name, (DAMAGED,), f"{words}. Copy or export the bundle again"))
    return findings or [Finding("digests", (), f"{len(every)} files as in the manifest")]


def _files_own(
    directory: Path, manifest: Manifest, entry: ModelEntry, expected: Expected
) -> list[Finding]:
    """The model file in its own runtime on this machine."""
    try:
        session = _OPEN[entry.format](directory / entry.file, None)

        def embed(crop: npt.NDArray[np.uint8]) -> Floats:
            (rows,) = session.run(crop[None].astype(session.dtype))
            return np.asarray(rows[0], "float64")

        shape = (manifest.crop.height, manifest.crop.width, 3)
        crops = [embed(_read(directory / one.rgb, shape)) for one in manifest.selftest.crops]
        found = [Finding(f"{entry.file} on the crops", *_words(diagnose(crops, expected)))]
        golden = manifest.selftest.photo
        if golden is not None:
            image = _read(directory / golden.rgb, (golden.height, golden.width, 3))
            crop = align_face(image, golden.points, shape[:2], template=manifest.crop.template)
            found.append(_photo(f"{entry.file} on the photo", embed(crop), expected))
    except ImportError:
        raise
    except Exception as error:  # each runtime has types of its own
        raise ValueError(
            f"{directory / entry.file}: the file cannot be run. Received: {one_line(error)}"
        ) from None
    return found


def _programs(
    program: "_Program",
    directory: Path,
    manifest: Manifest,
    expected: dict[str, Expected],
    photo: bool,
) -> list[Finding]:
    crops = [program.embed(directory / one.png) for one in manifest.selftest.crops]
    # Of several files the one that the program runs: right if it is for one of them, else the
    # nearest fault.
    fitting = [each for each in expected.values() if len(each.crops[0]) == len(crops[0])]
    diagnoses = [(diagnose(crops, each), each) for each in fitting]
    found, own = min(
        diagnoses, key=lambda one: (len(one[0].faults), -max(one[0].cosines, default=0))
    )
    findings = [Finding("the program on the crops", *_words(found))]
    golden = manifest.selftest.photo
    if photo and golden is not None and not found.faults:
        embedding = program.embed(directory / golden.png, golden)
        findings.append(_photo("the program on the photo", embedding, own))
    return findings


def _photo(step: str, embedding: Floats, expected: Expected) -> Finding:
    if not np.isfinite(embedding).all():
        return Finding(step, (CONSTANT,), "the embedding is not finite")
    cosine = float(unit(embedding) @ np.asarray(expected.photo))
    if cosine >= expected.least_cosine_photo:
        return Finding(step, (), "as expected", (cosine,))
    words = "the crop of the photo is not the one that its five points give"
    return Finding(step, (SHIFTED,), words, (cosine,))


def _words(found: Diagnosis) -> tuple[tuple[str, ...], str, tuple[float, ...]]:
    return found.faults, found.words, found.cosines


def _read(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(path.read_bytes(), np.uint8).reshape(shape)


class _Program:
    """The program of an app, which prints the embedding of an image."""

    def __init__(self, command: str, timeout: float, lengths: set[int]) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise ValueError(
                f"The runner must be a program and its arguments. Received: {command!r} ({error})"
            ) from None
        if not self._words:
            raise ValueError("The runner must be a program and its arguments. Received: nothing")
        self._timeout = timeout
        self._lengths = lengths

    def embed(self, image: Path, photo: GoldenPhoto | None = None) -> Floats:
        """The embedding that the program prints for an image."""
        points = [] if photo is None else [repr(each) for point in photo.points for each in point]
        command = [*self._words, str(image.resolve()), *points]
        shown = " ".join([*self._words, image.name])
        try:
            run = subprocess.run(
                command, capture_output=True, timeout=self._timeout, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise ValueError(
                f"The runner must print an embedding. Received: {shown}, which ran for more than "
                f"{self._timeout:g} seconds. A longer time is an option of the check."
            ) from None
        except OSError as error:
            raise ValueError(
                f"The runner must be a program that can be started. Received: {shown} "
                f"({error.strerror})"
            ) from None
        if run.returncode:
            lines = run.stderr.decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
            raise ValueError(
                f"The runner must print an embedding. Received: {shown}, which ended with the code "
                f"{run.returncode}: {last:.200}"
            )
        return self._parse(run.stdout.decode(errors="replace"), shown)

    def _parse(self, text: str, shown: str) -> Floats:
        lines = [line for line in text.split("\n") if line.strip()]
        last = lines[-1].strip() if lines else ""
        try:
            values = json.loads(last)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, list) or not all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in values
        ):
            raise ValueError(
                "The runner must print an embedding as a JSON list of numbers in its last line. "
                f"Received: {last[:80]!r} from {shown}"
            )
        if len(values) not in self._lengths:
            wanted = " or ".join(map(str, sorted(self._lengths)))
            raise ValueError(
                f"The runner must print an embedding of {wanted} numbers. Received: {len(values)} "
                f"numbers from {shown}"
            )
        # An integer may be larger than a float.
        return np.array([float(one) if abs(one) < 1e300 else math.inf for one in values])
