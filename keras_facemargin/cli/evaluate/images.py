"""Protocols of pairs of images: LFW and its like, and InsightFace's files."""

from pathlib import Path
from typing import Annotated

import typer

from keras_facemargin.cli.evaluate.run import EvaluationRun, to_page_or_folder
from keras_facemargin.cli.evaluate.tasks import development_pairs, pairs_of_images
from keras_facemargin.cli.options import (
    DEFAULT,
    Flip,
    Groups,
    Images,
    Lists,
    Models,
    OnMissing,
    OnMissingImage,
    Output,
    ReportFile,
)


def lfw(
    lists: Annotated[
        Path,
        typer.Option("--lists", "--pairs", help="Folder of the official pairs.txt, or the file."),
    ],
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    model: Models = (DEFAULT,),
    output: Output = Path("lfw-results"),
    flip: Flip = True,
    on_missing: Annotated[
        OnMissing,
        typer.Option(help="A listed image that is not there: refuse, or count its pair rejected."),
    ] = OnMissing.refuse,
    report: ReportFile = None,
    groups: Groups = None,
):
    """LFW, View 2: 10 folds, the threshold of each chosen on the other nine.

    Prints the table; writes roc.png, scores.png, hardest_pairs.png and results.json, or one page
    that holds all that and the intervals.

    Example: `facemargin evaluate lfw --lists lfw --images lfw/aligned --report lfw.html`
    """
    from keras_facemargin.evaluate import read_pairs
    from keras_facemargin.evaluate.protocols import CATEGORIES

    pairs = lists / "pairs.txt" if lists.is_dir() else lists
    category = CATEGORIES[-1]
    run = EvaluationRun(
        "LFW",
        f"The pairs of {pairs.name}. Category: {category}, for embedders that were trained on "
        "other people's labelled faces.",
        {"protocol": "lfw", "category": category},
        lambda: with_groups(read_pairs(pairs, images, on_missing=on_missing.value), groups),
        pairs_of_images(),
    )
    to_page_or_folder(run, model, output, flip, report, groups)


def lfw_view_1(
    lists: Lists,
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    model: Models = (DEFAULT,),
    output: Output = Path("lfw-view1-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
):
    """LFW, View 1, for development: a threshold from pairsDevTrain.txt, judged on pairsDevTest.txt.

    Prints the table; writes results.json, or one page with intervals, curves and pictures.

    Example: `facemargin evaluate lfw-view1 --lists lfw --images lfw/aligned`
    """
    from keras_facemargin.evaluate.protocols import read_view_1

    run = EvaluationRun(
        "LFW, View 1",
        "The pairs of pairsDevTest.txt; the threshold of the accuracy is the most accurate on "
        "those of pairsDevTrain.txt. For development only: nothing here is for publication.",
        {"protocol": "lfw, view 1"},
        lambda: read_view_1(lists, images, on_missing=on_missing.value),
        development_pairs(),
    )
    to_page_or_folder(run, model, output, flip, report)


def _reader(name, *kind):
    """A reader of the protocols' room, which is opened when it reads."""

    def read(lists, images, on_missing):
        from keras_facemargin.evaluate import protocols

        return getattr(protocols, name)(lists, images, *kind, on_missing=on_missing)

    return read


# Protocols whose list is `Pairs` in folds: name -> what it is, and its reader.
LISTS = {
    "cfp-ff": (
        "CFP, frontal with frontal: 10 folds, 7,000 pairs, by Pair_list_F.txt and Split/FF.",
        _reader("read_cfp", "FF"),
    ),
    "cfp-fp": (
        "CFP, frontal with profile: 10 folds, 7,000 pairs, by Pair_list_F.txt, _P.txt and "
        "Split/FP.",
        _reader("read_cfp", "FP"),
    ),
    "agedb-30": (
        "AgeDB-30: 10 folds, 6,000 pairs 30 years apart, by 04_FINAL_protocol_30_years.mat.",
        _reader("read_agedb"),
    ),
    "calfw": (
        "Cross-Age LFW: 10 folds, 6,000 pairs, by pairs_CALFW.txt.",
        _reader("read_calfw"),
    ),
    "cplfw": (
        "Cross-Pose LFW: 10 folds, 6,000 pairs, by pairs_CPLFW.txt.",
        _reader("read_cplfw"),
    ),
}


def help_of(name, about):
    """The help of one of `LISTS`."""
    written = "writes roc.png, scores.png, hardest_pairs.png and results.json."
    example = f"`facemargin evaluate {name} --lists lists --images crops`"
    return f"{about}\n\nPrints the table; {written}\n\nExample: {example}"


def command(name, about, read):
    """The command of one of `LISTS`."""

    def evaluate_list(
        lists: Lists,
        images: Images,
        model: Models = (DEFAULT,),
        output: Output = Path(f"{name}-results"),
        flip: Flip = True,
        on_missing: OnMissingImage = OnMissing.refuse,
        report: ReportFile = None,
        groups: Groups = None,
    ):
        run = EvaluationRun(
            name,
            about,
            {"protocol": name},
            lambda: with_groups(read(lists, images, on_missing.value), groups),
            pairs_of_images(),
        )
        to_page_or_folder(run, model, output, flip, report, groups)

    return evaluate_list


def verification_bin(
    file: Annotated[Path, typer.Argument(help="InsightFace's .bin file of pairs.")],
    model: Models = (DEFAULT,),
    output: Output = Path("bin-results"),
    flip: Flip = True,
    folds: Annotated[
        int, typer.Option(min=0, help="Equal parts of the pairs, in their order; 0: no accuracy.")
    ] = 10,
    report: ReportFile = None,
    groups: Groups = None,
):
    """InsightFace's verification files (lfw.bin, cfp_fp.bin), read without executing the pickle.

    Prints the table; writes roc.png, scores.png, hardest_pairs.png and results.json, or one page
    that holds all that and the intervals.

    Example: `facemargin evaluate bin lfw.bin --report lfw.html`
    """
    from keras_facemargin.evaluate.verification import read_bin_pairs

    parts = f", cut into {folds} folds in their order" if folds else ""
    run = EvaluationRun(
        file.name,
        f"The pairs of an InsightFace verification file{parts}.",
        {"protocol": "bin", "file": str(file)},
        lambda: with_groups(read_bin_pairs(file, folds=folds or None), groups),
        pairs_of_images(),
    )
    to_page_or_folder(run, model, output, flip, report, groups)


def own_pairs(
    file: Annotated[
        Path, typer.Argument(help="List of pairs: PATH PATH TRUTH, and FOLD if there are folds.")
    ],
    images: Annotated[Path, typer.Option(help="Folder of aligned crops, in which the paths lie.")],
    model: Models = (DEFAULT,),
    output: Output = Path("pairs-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
    groups: Groups = None,
):
    """A list of your own: two paths and 1 or 0 a line, separated by tabs, commas or spaces.

    Without folds there is no accuracy: its threshold would be chosen on the pairs that it judges.
    Prints the table; writes roc.png, scores.png, hardest_pairs.png and results.json, or one page
    that holds all that and the intervals.

    Example: `facemargin evaluate pairs pairs.csv --images crops`
    """
    from keras_facemargin.evaluate.protocols import read_own_pairs

    run = EvaluationRun(
        file.name,
        f"The pairs of {file.name}.",
        {"protocol": "pairs", "file": str(file)},
        lambda: with_groups(read_own_pairs(file, images, on_missing=on_missing.value), groups),
        pairs_of_images(),
    )
    to_page_or_folder(run, model, output, flip, report, groups)


def with_groups(pairs, file):
    """Pairs, and the groups that a file puts them in, if there is one."""
    from keras_facemargin.evaluate import read_groups

    return pairs, None if file is None else read_groups(file, pairs)
