"""Protocols of templates (several images of a person): YouTube Faces and IJB."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_facemargin.cli.evaluate import tasks
from keras_facemargin.cli.evaluate.run import EvaluationRun, to_page_or_folder
from keras_facemargin.cli.opening import ModelOptions
from keras_facemargin.cli.options import (
    DEFAULT_MODELS,
    FilesCrop,
    FilesPixels,
    Flip,
    Images,
    Lists,
    Models,
    OnMissing,
    OnMissingImage,
    Output,
    QualityWeight,
    ReportFile,
)

IjbTask = StrEnum("IjbTask", ["verify", "search"])
IjbcTask = StrEnum("IjbcTask", ["verify", "search", "covariates"])


def ytf(
    lists: Lists,
    images: Annotated[Path, typer.Option(help="Folder of the frames: NAME/VIDEO/*.jpg.")],
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("ytf-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
) -> None:
    """YouTube Faces: 10 folds, 5,000 pairs of videos. A video is the mean of its frames.

    Prints a table and writes results.json, roc.png and scores.png, or with --report one page that
    also has intervals.

    Example: `facemargin evaluate ytf --lists ytf --images ytf/aligned`
    """
    from keras_facemargin.evaluate.protocols import read_ytf

    run = EvaluationRun(
        "YouTube Faces",
        "Pairs of videos, each the mean of its frames.",
        {"protocol": "ytf"},
        lambda: read_ytf(lists, images, on_missing=on_missing.value),
        tasks.pairs_of_templates(),
    )
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )


def ijba(
    lists: Annotated[Path, typer.Option(help="Folder with IJB-A_11_sets or IJB-A_1N_sets.")],
    images: Annotated[Path, typer.Option(help="Folder of crops: img/IMAGE_SIGHTING.jpg.")],
    task: Annotated[IjbTask, typer.Option(help="verify: 1:1; search: 1:N.")] = IjbTask.verify,
    split: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=10, help="One of the ten splits. Repeat for several. Default: all."
        ),
    ] = None,
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("ijba-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
) -> None:
    """IJB-A: mean and deviation over ten splits of TAR at FAR, or of rank-k and TPIR at FPIR.

    For the line img/10281.jpg with SIGHTING_ID 28739, the crop is img/10281_28739.jpg.
    Prints a table and writes results.json, or with --report one page with intervals, curves and
    pictures.

    Example: `facemargin evaluate ijba --lists IJB-A --images crops --task search`
    """
    from keras_facemargin.evaluate.protocols import read_ijba, read_ijba_search
    from keras_facemargin.evaluate.protocols.ijba import SPLITS

    read, kind, about = {
        IjbTask.verify: (read_ijba, tasks.splits_of_templates(), "Pairs of templates in splits."),
        IjbTask.search: (
            read_ijba_search,
            tasks.searches(),
            "Searches, one gallery for each split.",
        ),
    }[task]
    run = EvaluationRun(
        f"IJB-A, {task.value}",
        about,
        {"protocol": "ijba", "task": task.value},
        lambda: read(lists, images, splits=split or SPLITS, on_missing=on_missing.value),
        kind,
    )
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )


def ijbb(
    lists: Annotated[Path, typer.Option(help="Folder of NIST's lists, or InsightFace's meta.")],
    images: Images,
    task: Annotated[IjbTask, typer.Option(help="verify: 1:1; search: 1:N.")] = IjbTask.verify,
    quality_weight: QualityWeight = 0.0,
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("ijbb-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
) -> None:
    """IJB-B: 1:1 of 8,010,270 pairs of templates, or 1:N in the two galleries.

    Prints a table and writes results.json, for 1:1 also roc.png and scores.png, or with --report
    one page that also has intervals.

    Example: `facemargin evaluate ijbb --lists IJBB/meta --images IJBB/crops --quality-weight 0.3`
    """
    of_task = {IjbTask.verify: _ijb_pairs, IjbTask.search: _ijb_searches}[task]
    run = of_task("ijbb", "IJB-B", lists, images, quality_weight, on_missing)
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )


def ijbc(
    lists: Annotated[Path, typer.Option(help="Folder of NIST's lists, or InsightFace's meta.")],
    images: Images,
    task: Annotated[
        IjbcTask, typer.Option(help="verify: 1:1; search: 1:N; covariates: single images.")
    ] = IjbcTask.verify,
    by: Annotated[
        str, typer.Option(help="Covariate: GENDER, SKINTONE, AGE, INDOOR_OUTDOOR, FACIAL_HAIR.")
    ] = "GENDER",
    quality_weight: QualityWeight = 0.0,
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("ijbc-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
) -> None:
    """IJB-C: 1:1 of 15,658,489 pairs of templates, 1:N in the two galleries, or its covariates.

    Prints a table and writes results.json, for 1:1 also roc.png and scores.png, or with --report
    one page that also has intervals.

    Example: `facemargin evaluate ijbc --lists IJBC/meta --images IJBC/crops --task search`
    """
    if task is IjbcTask.covariates:
        run = _ijbc_covariates(lists, images, by, quality_weight, on_missing)
    else:
        of_task = {IjbcTask.verify: _ijb_pairs, IjbcTask.search: _ijb_searches}[task]
        run = of_task("ijbc", "IJB-C", lists, images, quality_weight, on_missing)
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )


def _ijb_pairs(
    name: str, title: str, lists: Path, images: Path, quality_weight: float, on_missing: OnMissing
) -> EvaluationRun:
    from keras_facemargin.evaluate.protocols import read_ijb

    return EvaluationRun(
        f"{title}, 1:1",
        f"Pairs of templates. {_pooled(quality_weight)}",
        {"protocol": name, "task": "verify", "quality_weight": quality_weight},
        lambda: read_ijb(name, lists, images, on_missing=on_missing.value),
        tasks.pairs_of_templates(quality_weight),
    )


def _ijb_searches(
    name: str, title: str, lists: Path, images: Path, quality_weight: float, on_missing: OnMissing
) -> EvaluationRun:
    from keras_facemargin.evaluate.protocols import read_ijb_search

    return EvaluationRun(
        f"{title}, 1:N",
        f"All probes are searched in each of the two galleries. {_pooled(quality_weight)}",
        {"protocol": name, "task": "search", "quality_weight": quality_weight},
        lambda: read_ijb_search(name, lists, images, on_missing=on_missing.value),
        tasks.searches(quality_weight),
    )


def _ijbc_covariates(
    lists: Path, images: Path, by: str, quality_weight: float, on_missing: OnMissing
) -> EvaluationRun:
    from keras_facemargin.evaluate.protocols import read_ijbc_covariates

    def read() -> Any:
        pairs = read_ijbc_covariates(lists, images, on_missing=on_missing.value)
        return pairs, pairs.covariate(by)

    return EvaluationRun(
        f"IJB-C, {by}",
        "Pairs of single images.",
        {"protocol": "ijbc", "task": "covariates", "quality_weight": quality_weight, "by": by},
        read,
        tasks.pairs_by_value(by, quality_weight),
    )


def _pooled(quality_weight: float) -> str:
    if quality_weight:
        return f"Templates are pooled with quality weight {quality_weight:g}."
    return "A template is the mean over its media."
