"""All pairs of a set of faces, from embeddings or from images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_facemargin.cli.alignment import note_crops
from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.evaluate.run import about_flip, check_compared, show
from keras_facemargin.cli.files import image_files, prepare_folder, prepare_page, printable
from keras_facemargin.cli.opening import ModelOptions
from keras_facemargin.cli.options import (
    DEFAULT_MODELS,
    FilesCrop,
    FilesPixels,
    Flip,
    Groups,
    Models,
    Output,
    ReportFile,
)

if TYPE_CHECKING:
    from keras_facemargin.evaluate.saved import SavedEmbeddings


def every_pair(
    faces: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of aligned crops, one folder for each person; or .npz files that "
            "`facemargin embed` wrote, of the same faces."
        ),
    ],
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("all-pairs-results"),
    flip: Flip = True,
    report: ReportFile = None,
    groups: Groups = None,
) -> None:
    """All pairs of a set of faces, exactly: EER and TAR at FAR 1e-1 to 1e-8.

    The name of a folder is the name of the person; a .npz file may have `labels` (N,) instead.
    Prints a table and writes results.json, or with --report one page with intervals, curves and
    the hardest pairs. For a .npz file, the work for results.json is saved in state.npz: after an
    interruption, the same command resumes it.

    Example: `facemargin evaluate all-pairs embeddings.npz`
    """
    of_files = all(each.suffix == ".npz" and not each.is_dir() for each in faces)
    if not of_files and len(faces) > 1:
        raise ValueError(
            "Faces must be one folder of aligned crops, or .npz files that `facemargin embed` "
            f"wrote. Received: {', '.join(map(str, faces))}"
        )
    if of_files:
        check_compared("file", "files", [*map(str, faces)], report=report, groups=groups)
    else:
        check_compared("--model", "models", model, report=report, groups=groups)
    if report is not None:
        prepare_page(report)
    if of_files:
        saved = _read_files(faces)
        embeddings = {printable(each.file): each.embeddings for each in saved}
        labels, paths = saved[0].labels, saved[0].paths
        grouped, about = _groups(groups, paths, labels), [_about(each) for each in saved]
    else:
        paths = image_files(faces)
        if report is None:
            prepare_folder(output, "results.json")
        labels = [path.parent.name for path in paths]
        grouped, about = (
            _groups(groups, paths, labels),
            [about_flip(flip)],
        )  # before minutes of work
        embeddings = _embed(paths, ModelOptions(model, crop, pixels), flip)
    if report is not None:
        title = f"All pairs of {', '.join(each.name for each in faces)}"
        _to_page(report, title, embeddings, labels, paths, about, grouped)
        return
    record: dict[str, Any] = {"faces": str(faces[0])}
    if not of_files:
        record |= {"model": model[0], "flip": flip}
    (rows,) = embeddings.values()
    _to_folder(output, rows, labels, record, output / "state.npz" if of_files else None)


def _to_folder(
    output: Path, embeddings: Any, labels: list[Any], record: dict[str, Any], state: Path | None
) -> None:
    """Prints the table of one embedder and writes results.json."""
    from keras_facemargin.evaluate import verify_all_pairs
    from keras_facemargin.files import write_json

    prepare_folder(output, "results.json")
    result = verify_all_pairs(embeddings, labels, state=state)
    show_table(result)
    write_json(output / "results.json", record | result.to_dict())
    say(f"{output}/results.json")


def _to_page(
    report: Path,
    title: str,
    embeddings: dict[str, Any],
    labels: list[Any],
    paths: list[Path] | None,
    about: list[str],
    groups: Any,
) -> None:
    """Writes one page that compares the embedders, and its JSON."""
    from keras_facemargin.report import report_all_pairs

    models = report_all_pairs(
        report, embeddings, labels, title=title, images=paths, about=about, groups=groups
    )
    show(models, report)


def _groups(file: Path | None, paths: list[Path] | None, labels: list[Any]) -> Any:
    from keras_facemargin.evaluate.uncertainty import read_groups_of_images

    return None if file is None else read_groups_of_images(file, paths, labels)


def _embed(paths: list[Path], models: ModelOptions, flip: bool) -> dict[str, Any]:
    """Returns a dict of model -> embeddings."""
    from keras_facemargin.evaluate import embed

    embedders = models.open()
    embeddings = {
        printable(name): embed(each, paths, flip=flip) for name, each in embedders.items()
    }
    for embedder in embedders.values():
        note_crops(paths, embedder)
    return embeddings


def _read_files(files: list[Path]) -> "list[SavedEmbeddings]":
    """Reads embeddings of the same faces. They may be of several embedders.

    Each file is scored within itself, so that embeddings of two embedders never meet.
    """
    from keras_facemargin.evaluate.saved import read_embeddings

    first, *others = map(read_embeddings, files)
    for each in others:
        if (each.labels, each.paths) != (first.labels, first.paths):
            raise ValueError(
                "Compared embeddings must have the same faces in the same order. "
                f"Received: {first.file} and {each.file}, which differ in `paths` or `labels`."
            )
    return [first, *others]


def _about(saved: "SavedEmbeddings") -> str:
    """The paragraph of a page on the embedder of a file."""
    if saved.embedding_id is None:
        return f"{printable(saved.file)} does not name its embedder."
    return f"{printable(saved.file)}: embeddings of {saved.model}, id {saved.embedding_id}."
