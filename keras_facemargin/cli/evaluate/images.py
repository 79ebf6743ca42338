"""Protocols of pairs of images: LFW and similar sets, InsightFace's files, your own pairs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_facemargin.cli.evaluate.run import EvaluationRun, to_page_or_folder
from keras_facemargin.cli.evaluate.tasks import development_pairs, pairs_of_images
from keras_facemargin.cli.opening import ModelOptions
from keras_facemargin.cli.options import (
    DEFAULT_MODELS,
    FilesCrop,
    FilesPixels,
    Flip,
    Groups,
    Images,
    Lists,
    Models,
    OnMissing,
    OnMissingImage,
    OnMissingPair,
    Output,
    ReportFile,
)

# (lists, images, on_missing) -> `Pairs`.
Reader = Callable[[Path, Path, str], Any]


def lfw(
    lists: Annotated[
        Path,
        typer.Option("--lists", "--pairs", help="Folder of the official pairs.txt, or the file."),
    ],
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("lfw-results"),
    flip: Flip = True,
    on_missing: OnMissingPair = OnMissing.refuse,
    report: ReportFile = None,
    groups: Groups = None,
) -> None:
    """LFW, View 2: 10 folds; the threshold of each fold is chosen on the other nine.

    Prints a table and writes results.json, roc.png, scores.png and hardest_pairs.png. With
    --report it writes one page with intervals of every measure.

    Example: `facemargin evaluate lfw --lists lfw --images lfw/aligned --report lfw.html`
    """
    from keras_facemargin.evaluate import read_pairs
    from keras_facemargin.evaluate.protocols import CATEGORIES

    pairs = lists / "pairs.txt" if lists.is_dir() else lists
    category = CATEGORIES[-1]
    _evaluate(
        "LFW",
        f"The pairs of {pairs.name}. Category: {category}, for embedders "
        "that were trained on labelled faces of other people.",
        {"protocol": "lfw", "category": category},
        lambda: read_pairs(pairs, images, on_missing=on_missing.value),
        ModelOptions(model, crop, pixels),
        output=output,
        flip=flip,
        report=report,
        groups=groups,
    )


def lfw_view_1(
    lists: Lists,
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("lfw-view1-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
) -> None:
    """LFW, View 1, for development.

    The threshold is chosen on pairsDevTrain.txt and tested on pairsDevTest.txt.

    Prints a table and writes results.json, or with --report one page with intervals, curves and
    pictures.

    Example: `facemargin evaluate lfw-view1 --lists lfw --images lfw/aligned`
    """
    from keras_facemargin.evaluate.protocols import read_view_1

    run = EvaluationRun(
        "LFW, View 1",
        "The pairs of pairsDevTest.txt. The threshold of the accuracy is the most accurate one on "
        "pairsDevTrain.txt. For development only: do not publish these results.",
        {"protocol": "lfw, view 1"},
        lambda: read_view_1(lists, images, on_missing=on_missing.value),
        development_pairs(),
    )
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )


def _reader(name: str, *kind: str) -> Reader:
    """A reader of `evaluate.protocols`, imported when it is called."""

    def read(lists: Path, images: Path, on_missing: str) -> Any:
        from keras_facemargin.evaluate import protocols

        return getattr(protocols, name)(lists, images, *kind, on_missing=on_missing)

    return read


# Protocols whose list is `Pairs` in folds: name -> description and reader.
LISTS = {
    "cfp-ff": (
        "CFP, frontal with frontal: 10 folds, 7,000 pairs; lists Pair_list_F.txt and Split/FF.",
        _reader("read_cfp", "FF"),
    ),
    "cfp-fp": (
        "CFP, frontal with profile: 10 folds, 7,000 pairs; lists Pair_list_F.txt, Pair_list_P.txt "
        "and Split/FP.",
        _reader("read_cfp", "FP"),
    ),
    "agedb-30": (
        "AgeDB-30: 10 folds, 6,000 pairs 30 years apart; list 04_FINAL_protocol_30_years.mat.",
        _reader("read_agedb"),
    ),
    "calfw": (
        "Cross-Age LFW: 10 folds, 6,000 pairs; list pairs_CALFW.txt.",
        _reader("read_calfw"),
    ),
    "cplfw": (
        "Cross-Pose LFW: 10 folds, 6,000 pairs; list pairs_CPLFW.txt.",
        _reader("read_cplfw"),
    ),
}


def help_of(name: str, about: str) -> str:
    """The help of one of `LISTS`."""
    written = (
        "Prints a table and writes results.json, roc.png, scores.png and hardest_pairs.png. With "
        "--report it writes one page with intervals of every measure."
    )
    example = f"`facemargin evaluate {name} --lists lists --images crops`"
    return f"{about}\n\n{written}\n\nExample: {example}"


def command(name: str, about: str, read: Reader) -> Callable[..., None]:
    """The command of one of `LISTS`."""

    def evaluate_list(
        lists: Lists,
        images: Images,
        model: Models = DEFAULT_MODELS,
        crop: FilesCrop = None,
        pixels: FilesPixels = None,
        output: Output = Path(f"{name}-results"),
        flip: Flip = True,
        on_missing: OnMissingImage = OnMissing.refuse,
        report: ReportFile = None,
        groups: Groups = None,
    ) -> None:
        _evaluate(
            name,
            about,
            {"protocol": name},
            lambda: read(lists, images, on_missing.value),
            ModelOptions(model, crop, pixels),
            output=output,
            flip=flip,
            report=report,
            groups=groups,
        )

    return evaluate_list


def verification_bin(
    file: Annotated[Path, typer.Argument(help="InsightFace's .bin file of pairs.")],
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("bin-results"),
    flip: Flip = True,
    folds: Annotated[
        int,
        typer.Option(
            min=0, help="Number of equal folds, in the order of the pairs. 0: no accuracy."
        ),
    ] = 10,
    report: ReportFile = None,
    groups: Groups = None,
) -> None:
    """InsightFace's verification files (lfw.bin, cfp_fp.bin). The pickle in them is not executed.

    Prints a table and writes results.json, roc.png, scores.png and hardest_pairs.png. With
    --report it writes one page with intervals of every measure.

    Example: `facemargin evaluate bin lfw.bin --report lfw.html`
    """
    from keras_facemargin.evaluate.verification import read_bin_pairs

    parts = f", in {folds} folds in the order of the file" if folds else ""
    _evaluate(
        file.name,
        f"The pairs of an InsightFace verification file{parts}.",
        {"protocol": "bin", "file": str(file)},
        lambda: read_bin_pairs(file, folds=folds or None),
        ModelOptions(model, crop, pixels),
        output=output,
        flip=flip,
        report=report,
        groups=groups,
    )


def own_pairs(
    file: Annotated[
        Path,
        typer.Argument(
            help="List of pairs, one a line: PATH PATH TRUTH, and FOLD if there are folds."
        ),
    ],
    images: Annotated[
        Path, typer.Option(help="Folder of aligned crops; the paths are relative to it.")
    ],
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("pairs-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
    groups: Groups = None,
) -> None:
    """Your own pairs: two paths and 1 or 0 on each line, separated by tabs, commas or spaces.

    Without folds the accuracy is not measured: its threshold would be chosen on the same pairs.
    Prints a table and writes results.json, roc.png, scores.png and hardest_pairs.png. With
    --report it writes one page with intervals of every measure.

    Example: `facemargin evaluate pairs pairs.csv --images crops`
    """
    from keras_facemargin.evaluate.protocols import read_own_pairs

    _evaluate(
        file.name,
        f"The pairs of {file.name}.",
        {"protocol": "pairs", "file": str(file)},
        lambda: read_own_pairs(file, images, on_missing=on_missing.value),
        ModelOptions(model, crop, pixels),
        output=output,
        flip=flip,
        report=report,
        groups=groups,
    )


def _evaluate(
    title: str,
    about: str,
    record: dict[str, Any],
    read: Callable[[], Any],
    models: ModelOptions,
    *,
    output: Path,
    flip: bool,
    report: Path | None,
    groups: Path | None,
) -> None:
    """Evaluates embedders on the `Pairs` that `read` returns; see `EvaluationRun`."""
    run = EvaluationRun(
        title,
        about,
        record,
        lambda: _with_groups(read(), groups),
        pairs_of_images(judged=report is not None),
    )
    to_page_or_folder(run, models, output=output, flip=flip, report=report, groups=groups)


def _with_groups(pairs: Any, file: Path | None) -> tuple[Any, Any]:
    """Pairs, and their groups from a file, or ``None`` without a file."""
    from keras_facemargin.evaluate import read_groups

    return pairs, None if file is None else read_groups(file, pairs)
