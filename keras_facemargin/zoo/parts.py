"""The parts of a model card, each a frozen record.

The fields are defined once, here and in `Card`; `card.schema.json` in the zoo is generated from
them.
"""

import math
import typing
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

if typing.TYPE_CHECKING:
    import numpy.typing as npt

DEFAULT_FAR = 1e-3  # of the threshold that is used where no rate is named

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _check_name(name: str) -> str:
    if PurePosixPath(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise ValueError("a file name without a path")
    return name


def _check_member(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or {"", ".", ".."} & set(parts):
        raise ValueError("a relative path with /, without . or ..")
    return path


FileName = Annotated[str, pydantic.AfterValidator(_check_name)]
MemberPath = Annotated[str, pydantic.AfterValidator(_check_member)]


class Record(pydantic.BaseModel):
    """A part of a card: frozen, without conversion between types and without unknown fields."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


class KerasNetwork(Record):
    """The weights' file is a `.keras` model and holds its own network."""

    kind: Literal["keras"]


class BackboneNetwork(Record):
    """A network that `build_embedder` builds.

    Attributes:
        backbone: a function of `keras_facemargin.backbones`.
        arguments: its arguments.
        neck: the layers from the last map to the embedding, as `build_embedder` names them.
        embedding_dim: D.
    """

    kind: Literal["backbone"]
    backbone: Text
    arguments: dict[str, pydantic.JsonValue]
    neck: Text
    embedding_dim: Positive


class GraphNetwork(Record):
    """The weights' file holds the graph, which is converted operation by operation."""

    kind: Literal["graph"]


Network = Annotated[KerasNetwork | BackboneNetwork | GraphNetwork, Field(discriminator="kind")]


class CropSize(Record):
    """The crop that an embedder takes.

    Attributes:
        height, width: in pixels.
        template: name of the points, as `keras_facemargin.images` has them; None if the crop is cut
            without points.
        points: x and y in the crop of the left eye, the right eye, the nose, and the left and the
            right corner of the mouth, as a viewer sees them; None without a template.
    """

    height: Positive
    width: Positive
    template: Text | None
    points: Annotated[tuple[tuple[float, float], ...], Field(min_length=5, max_length=5)] | None


class PixelRule(Record):
    """What the weights' own file wants: ``(pixel - mean) / scale`` for each channel.

    Attributes:
        mean, scale: three numbers each, in the file's channel order.
    """

    mean: tuple[float, float, float]
    scale: tuple[
        Annotated[float, Field(gt=0)],
        Annotated[float, Field(gt=0)],
        Annotated[float, Field(gt=0)],
    ]


class Input(Record):
    """Input of the weights' own file.

    The embedder that `load_embedder` returns takes RGB in 0..255 in every case: it contains the
    pixel rule and the channel order.

    Attributes:
        crop: see there.
        channel_order: "RGB" or "BGR".
        range: lowest and highest pixel value before the pixel rule.
        pixel_rule: see there; None if the file contains its own rule.
    """

    crop: CropSize
    channel_order: Literal["RGB", "BGR"]
    range: tuple[int, int]
    pixel_rule: PixelRule | None


class Weights(Record):
    """The file with the weights.

    Attributes:
        file: its name.
        bytes: its size; None if it is not known.
        sha256: its digest, 64 hexadecimal digits; None if no digest has been published. A file
            without a digest is never downloaded.
    """

    file: FileName
    bytes: Positive | None
    sha256: Sha256 | None


class Archive(Record):
    """An archive that holds the weights' file.

    Attributes:
        file: its name.
        bytes: its size; None if it is not known.
        sha256: its digest, which is checked before it is opened.
        member: path of the weights' file in it, or its name if only one member has that name.
    """

    file: FileName
    bytes: Positive | None
    sha256: Sha256
    member: MemberPath


class FolderSource(Record):
    """The file is beside the card."""

    kind: Literal["folder"]

    def __str__(self) -> str:
        return "the card's folder"


class HttpsSource(Record):
    """An address.

    Attributes:
        url: begins with ``https://``.
        archive: the archive at the address; None if the address gives the file itself.
    """

    kind: Literal["https"]
    url: Annotated[str, Field(pattern=r"^https://[^\s]+$")]
    archive: Archive | None

    def __str__(self) -> str:
        return self.url


class HubSource(Record):
    """A file of a repository on the Hugging Face hub.

    Attributes:
        repository: "owner/name".
        revision: branch, tag or commit.
        path: of the file in the repository.
    """

    kind: Literal["hf"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[\w./-]+$")]
    path: MemberPath

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}/{self.path}"


class PipSource(Record):
    """A file inside an installed Python distribution, which is read and never imported.

    Attributes:
        distribution: its name on PyPI.
        version: exact.
        path: of the file in the installed distribution.
        archive: the distribution's source archive, from which the file can be read as well.
        extra: extra of this package that installs the distribution; None without one.
    """

    kind: Literal["pip"]
    distribution: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    version: Annotated[str, Field(pattern=r"^[\w.+!-]+$")]
    path: MemberPath
    archive: Archive | None
    extra: Text | None

    def __str__(self) -> str:
        return f"pip {self.distribution}=={self.version}"


class NpmSource(Record):
    """A file inside an npm package.

    Attributes:
        package: its name.
        version: exact.
        archive: the tarball that `npm pack` writes.
    """

    kind: Literal["npm"]
    package: Annotated[str, Field(pattern=r"^(@[\w.-]+/)?[\w][\w.-]*$")]
    version: Annotated[str, Field(pattern=r"^[\w.+-]+$")]
    archive: Archive

    def __str__(self) -> str:
        return f"npm {self.package}@{self.version}"


class OwnSource(Record):
    """You bring the file; it is recognised by its digest.

    Attributes:
        instructions: where the file is published.
    """

    kind: Literal["own"]
    instructions: Text

    def __str__(self) -> str:
        return f"your own copy ({self.instructions})"


Source = Annotated[
    FolderSource | HttpsSource | HubSource | PipSource | NpmSource | OwnSource,
    Field(discriminator="kind"),
]


class LicenseEntry(Record):
    """One statement about the licence of one part.

    Attributes:
        part: "weights", "code", "data" or "teacher".
        of: which weights, code, data or teacher.
        license: an SPDX identifier, or words.
        stated_by: person, file or page that states it.
        commercial: whether the statement allows commercial use; None if it is silent about it.
    """

    part: Literal["weights", "code", "data", "teacher"]
    of: Text
    license: Text
    stated_by: Text
    commercial: bool | None

    def __str__(self) -> str:
        return f"{self.part} ({self.of}): {self.license} [{self.stated_by}]"


class Published(Record):
    """A figure that others state, not measured by this project.

    Attributes:
        protocol: for example "lfw".
        measure: for example "accuracy".
        value: a share, 0 to 1.
        stated_by: person, file or page that states it.
        notes: conditions that a reader needs to compare it; "" without any.
    """

    protocol: Text
    measure: Text
    value: Share
    stated_by: Text
    notes: str


class Measured(Record):
    """A protocol's figures, measured by this project's own command.

    Attributes:
        protocol: for example "lfw".
        mirrored: whether the mirror image's embedding was appended.
        accuracy: mean over the folds, in [0, 1].
        standard_error: of that mean.
        interval: 95 % interval of the accuracy over people; None if it was not computed.
        tar_at_far: true accept rate, keyed by the false accept rate as text ("1e-3").
        eer, auc: equal error rate and area under the ROC.
        pairs: number of pairs judged.
        failed_to_enrol: those among them that count as rejected because an image is missing or has
            no face.
        command: what measures it again.
        versions: of the packages that measured it, by name; empty if they were not recorded.
        seeds: of the trainings behind the figure; empty for published weights.
        notes: conditions that a reader needs to compare it.
    """

    protocol: Text
    mirrored: bool
    accuracy: Share
    standard_error: Share
    interval: tuple[Share, Share] | None
    tar_at_far: dict[str, Share]
    eer: Share
    auc: Share
    pairs: Count
    failed_to_enrol: Count
    command: Text
    versions: dict[str, str]
    seeds: tuple[int, ...]
    notes: str

    def __str__(self) -> str:
        kind = "with the mirror image" if self.mirrored else "image alone"
        figure = f"{self.protocol.upper()}, {kind}: {self.accuracy:.2%} ± {self.standard_error:.2%}"
        if self.interval is None:
            return figure
        low, high = self.interval
        return f"{figure}, 95 % interval over people {low:.2%} to {high:.2%}"


class Threshold(Record):
    """Smallest cosine at which two faces count as the same person.

    Attributes:
        cosine: the threshold; a pair is accepted at this cosine or above.
        far: false accept rate that it was calibrated for.
        data: the pairs it was calibrated on.
        genuine_pairs, impostor_pairs: their numbers.
        tar: share of the genuine pairs that it accepts.
        group: group of people that the pairs are of; None if they are of all people.
        tar_interval: 95 % interval of `tar` over people, at this cosine; None if it was not
            computed.
    """

    cosine: Annotated[float, Field(ge=-1, le=1)]
    far: Annotated[float, Field(gt=0, lt=1)]
    data: Text
    genuine_pairs: Count
    impostor_pairs: Count
    tar: Share
    group: Text | None = None
    tar_interval: tuple[Share, Share] | None = None

    def __str__(self) -> str:
        return f"{self.cosine:.4f} at FAR {self.far:.2g} on {self.impostor_pairs:,} impostor pairs"


class Thresholds(Record):
    """Thresholds for each kind of embedding: at one cosine the two accept different pairs.

    Attributes:
        single: for the embedding of the image alone, which an exported file gives; one for each
            false accept rate that the pairs support.
        mirrored: for embeddings with the mirror image's appended, as `evaluate.embed` makes them
            by default and the command `verify` compares them.
    """

    single: Annotated[tuple[Threshold, ...], Field(min_length=1)]
    mirrored: Annotated[tuple[Threshold, ...], Field(min_length=1)]

    def find(self, *, mirrored: bool, far: float = DEFAULT_FAR) -> Threshold:
        """The threshold whose false accept rate is the nearest to `far`, over all people.

        Args:
            mirrored: whether the embeddings hold the mirror image's as well.
            far: false accept rate.

        Returns:
            A `Threshold`; its `far` may differ.

        Example:

        >>> from keras_facemargin.zoo import load_card
        >>> load_card("spherenet_distilled").thresholds.find(mirrored=True).far
        0.001
        """
        return nearest_far(self.mirrored if mirrored else self.single, far)


def nearest_far(thresholds: tuple[Threshold, ...], far: float = DEFAULT_FAR) -> Threshold:
    """The threshold whose false accept rate is the nearest to `far`, over all people."""
    general = [one for one in thresholds if one.group is None] or thresholds
    return min(general, key=lambda one: abs(math.log(one.far / far)))


class GroupErrors(Record):
    """Errors of one group of people at the threshold of a `Groups`.

    Attributes:
        group: its name.
        impostor_pairs, false_matches: pairs of two people of the group, and those accepted.
        fmr_interval: 95 % interval of the false match rate over people; None without pairs.
        genuine_pairs, false_non_matches: pairs of one person, and those rejected.
        fnmr_interval: 95 % interval of the false non-match rate over people; None without pairs.
        own_cosine: smallest cosine at which this group has the rate `held_far`; None if fewer than
            30 of its pairs may then be accepted.
    """

    group: Text
    impostor_pairs: Count
    false_matches: Count
    fmr_interval: tuple[Share, Share] | None
    genuine_pairs: Count
    false_non_matches: Count
    fnmr_interval: tuple[Share, Share] | None
    own_cosine: Annotated[float, Field(ge=-1, le=1)] | None

    @property
    def fmr(self) -> float | None:
        """False match rate; None without impostor pairs."""
        return self.false_matches / self.impostor_pairs if self.impostor_pairs else None

    @property
    def fnmr(self) -> float | None:
        """False non-match rate; None without genuine pairs."""
        return self.false_non_matches / self.genuine_pairs if self.genuine_pairs else None

    @property
    def cells(self) -> tuple[str, str, str]:
        """FMR and FNMR as text, with intervals and counts, and the group's own cosine."""
        own = "-" if self.own_cosine is None else f"{self.own_cosine:.4f}"
        return (
            _rate(self.fmr, self.fmr_interval, self.false_matches, self.impostor_pairs),
            _rate(self.fnmr, self.fnmr_interval, self.false_non_matches, self.genuine_pairs),
            own,
        )


def _rate(rate: float | None, interval: tuple[float, float] | None, errors: int, pairs: int) -> str:
    if rate is None or interval is None:
        return "-"
    return f"{rate:.2%} ({interval[0]:.2%} to {interval[1]:.2%}), {errors:,} of {pairs:,}"


class Groups(Record):
    """Errors by group of people, at one cosine for all, with the mirror image's embedding appended.

    Attributes:
        data: the faces, who labelled the groups, and what the groups differ in beside that.
        cosine, far: the card's threshold, and the false accept rate that it was calibrated for.
        groups: a `GroupErrors` for each.
        ratio: highest false match rate / lowest, of the groups with enough pairs; None if the
            lowest is 0.
        gini: Gini coefficient of these rates: 0 if all are equal, 1 if one group has all errors.
        held_far: a false accept rate that enough groups have pairs for.
        single_cosine: smallest cosine with that rate over all pairs.
        held_cosine: smallest cosine at which no group exceeds it.
        single_tar, held_tar: share of the genuine pairs accepted there.
    """

    data: Text
    cosine: Annotated[float, Field(ge=-1, le=1)]
    far: Annotated[float, Field(gt=0, lt=1)]
    groups: Annotated[tuple[GroupErrors, ...], Field(min_length=2)]
    ratio: Annotated[float, Field(ge=1)] | None
    gini: Share
    held_far: Annotated[float, Field(gt=0, lt=1)]
    single_cosine: Annotated[float, Field(ge=-1, le=1)]
    held_cosine: Annotated[float, Field(ge=-1, le=1)]
    single_tar: Share
    held_tar: Share

    @property
    def sentences(self) -> tuple[str, ...]:
        """The faces and the threshold, the spread, and the threshold for every group."""
        times = "the lowest is 0" if self.ratio is None else f"max/min {self.ratio:.1f}"
        return (
            f"Errors by group at the cosine {self.cosine:.4f} (FAR {self.far:g} where it was "
            f"calibrated), with the mirror image. {self.data}",
            f"Spread of the FMR: {times}, Gini {self.gini:.2f}.",
            f"The cosine {self.held_cosine:.4f} holds FAR {self.held_far:g} in every group; "
            f"{self.single_cosine:.4f} holds it only over the groups together. The TAR falls from "
            f"{self.single_tar:.1%} to {self.held_tar:.1%}.",
        )

    @property
    def table(self) -> str:
        """A Markdown table of the groups."""
        lines = [
            f"| group | FMR | FNMR | own cosine for FAR {self.held_far:g} |",
            "| --- | --- | --- | --- |",
            *(f"| {one.group} | {' | '.join(one.cells)} |" for one in self.groups),
        ]
        return "\n".join(lines)


class Likelihood(Record):
    """Map from the cosine of two mirrored embeddings to a likelihood ratio.

    ``ln LR = slope * cosine + intercept``. The ratio says how many times as likely the cosine is
    for one person as for two; it multiplies the odds before the comparison, which are the user's.

    Attributes:
        slope, intercept: of the map, fitted by logistic regression.
        data: the pairs it was fitted on.
        people: their number.
        genuine_pairs, impostor_pairs: numbers of pairs. They support no ratio below
            ``1 / genuine_pairs`` and none above ``impostor_pairs``.
    """

    slope: Annotated[float, Field(gt=0)]
    intercept: float
    data: Text
    people: Positive
    genuine_pairs: Positive
    impostor_pairs: Annotated[int, Field(ge=1000)]

    def log10_ratio(self, cosine: float) -> float:
        """log10 of the likelihood ratio, within what the number of pairs supports."""
        return min(max(self._fitted(cosine), self._ends[0]), self._ends[1])

    def is_bound(self, cosine: float) -> bool:
        """Whether the map gives a more extreme ratio than the number of pairs supports.

        `log10_ratio` is then a bound: "at least so many times as likely".
        """
        return not self._ends[0] <= self._fitted(cosine) <= self._ends[1]

    def _fitted(self, cosine: float) -> float:
        return (self.slope * cosine + self.intercept) / math.log(10)

    @property
    def _ends(self) -> tuple[float, float]:
        return -math.log10(self.genuine_pairs), math.log10(self.impostor_pairs)


class FaceQuality(Record):
    """Scale and limits of the quality of crops, measured for one embedder.

    `keras_facemargin.quality` takes it as the scale of `judge` and as the limits of `decide`.

    Attributes:
        data: the crops it was measured on.
        people, crops: their numbers.
        norm_weight: weight of the logarithm of the embedding's norm in the raw utility; the cosine
            between the embeddings of a crop and its mirror image has weight 1.
        raw_utilities: raw utility at the 0 %, 1 %, ..., 100 % of the crops, ascending. The utility
            of a crop is the share of them below its own.
        utility: lowest utility at which the answer "different" holds.
        sharpness: fewest pixels between the eyes of both crops at which any answer holds: no kind
            of damage then accepts more strangers than clean crops do, at the threshold of clean
            crops.
        threshold_rise: rise of the threshold of "same", a cosine for each pixel between the eyes
            that the sharper crop of a pair has less than 22, if the other is below `sharpness`: no
            kind of damage then accepts more than 1.5 times the strangers; None if it was not
            measured or there is none.
        far: false accept rate of the threshold at which the limit was measured.
        refused: share of the clean crops that are below a limit.
        far_times: for each kind of damage the accepted strangers of all, as a multiple of `far`:
            without the limits, and with them.
    """

    data: Text
    people: Positive
    crops: Positive
    norm_weight: Annotated[float, Field(ge=0)]
    raw_utilities: Annotated[tuple[float, ...], Field(min_length=101, max_length=101)]
    utility: Share
    sharpness: Annotated[float, Field(ge=0)]
    threshold_rise: Annotated[float, Field(ge=0)] | None = None
    far: Annotated[float, Field(gt=0, lt=1)]
    refused: Share
    far_times: dict[str, tuple[float, float]]

    def utilities(self, norms: "npt.ArrayLike", agreements: "npt.ArrayLike") -> "npt.NDArray[Any]":
        """Utility of crops, 0 to 1.

        Args:
            norms: (N,), of the embeddings.
            agreements: (N,), cosines between the embeddings and those of the mirror images.

        Returns:
            float64 (N,).
        """
        import numpy as np

        raw = self.norm_weight * np.log(np.maximum(norms, 1e-12)) + np.asarray(agreements)
        shares = np.linspace(0, 1, len(self.raw_utilities))
        found: npt.NDArray[Any] = np.interp(raw, self.raw_utilities, shares)
        return found


class Golden(Record):
    """The embedding of a generated crop, computed by the original file in its own runtime.

    Attributes:
        crop: name of the crop, as `keras_facemargin.zoo.parity` draws it.
        runtime: package and version that ran the original file.
        embedding: D numbers, as the file gives them.
    """

    crop: Text
    runtime: Text
    embedding: tuple[float, ...]


class Training(Record):
    """Training of the weights.

    Attributes:
        data: what was trained on, and what was held out by which rule.
        tool, command: the script in the repository and its call; None for published weights.
        seed: of every random choice; None if it is not known.
        steps: optimizer steps; None if they are not known.
    """

    data: Text
    tool: Text | None
    command: Text | None
    seed: Count | None
    steps: Count | None
