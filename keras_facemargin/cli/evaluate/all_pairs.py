"""All pairs of a set of faces, from embeddings or from images."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_facemargin.cli.alignment import note_crops
from keras_facemargin.cli.console import console, say
from keras_facemargin.cli.evaluate.run import about_flip, check_compared, show
from keras_facemargin.cli.files import image_files, prepare_folder, prepare_page, printable
from keras_facemargin.cli.options import DEFAULT_MODELS, Flip, Groups, Models, Output, ReportFile


def every_pair(
    faces: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of aligned crops, one folder for each person; or .npz files that "
            "`facemargin embed` wrote, of the same faces."
        ),
    ],
    model: Models = DEFAULT_MODELS,
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
        embeddings, labels, paths = _read_files(faces)
        grouped, about = _groups(groups, paths, labels), []
    else:
        paths = image_files(faces)
        if report is None:
            prepare_folder(output, "results.json")
        labels = [path.parent.name for path in paths]
        grouped, about = (
            _groups(groups, paths, labels),
            [about_flip(flip)],
        )  # before minutes of work
        embeddings = _embed(paths, model, flip)
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
    console.print(result)
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


def _embed(paths: list[Path], models: list[str], flip: bool) -> dict[str, Any]:
    """Returns a dict of model -> embeddings."""
    from keras_facemargin.evaluate import embed
    from keras_facemargin.zoo import load_embedder

    embedders = {model: load_embedder(model) for model in models}
    embeddings = {
        printable(name): embed(each, paths, flip=flip) for name, each in embedders.items()
    }
    for embedder in embedders.values():
        note_crops(paths, embedder)
    return embeddings


def _read_files(files: list[Path]) -> tuple[dict[str, Any], list[Any], list[Path] | None]:
    """Returns (dict of file -> embeddings, labels, image files or ``None``)."""
    first, *others = files
    rows, labels, paths = _read_embeddings(first)
    embeddings = {printable(first): rows}
    for file in others:
        rows, *theirs = _read_embeddings(file)
        if theirs != [labels, paths]:
            raise ValueError(
                "Compared embeddings must have the same faces in the same order. "
                f"Received: {first} and {file}, which differ in `paths` or `labels`."
            )
        embeddings[printable(file)] = rows
    return embeddings, labels, paths


def _read_embeddings(file: Path) -> tuple[Any, list[Any], list[Path] | None]:
    """Reads a file of `facemargin embed`: embeddings, labels, image files or ``None``."""
    from keras_facemargin.arrays import embedding_rows, identifiers, read_npz

    rule = (
        "Embeddings must be a .npz file with `embeddings` (N, D) and `paths` (or `labels`) (N,), "
        "as `facemargin embed` writes."
    )
    arrays = read_npz(file)
    if "embeddings" not in arrays or not arrays.keys() & {"paths", "labels"}:
        held = ", ".join(arrays) or "nothing"
        raise ValueError(f"{rule} Received: {file}, which has {held}.")
    try:
        rows = embedding_rows(arrays["embeddings"])
        names = [name for name in ("paths", "labels") if name in arrays]
        named = {name: identifiers(**{name: arrays[name]})[0] for name in names}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if any(values.shape != (len(rows),) for values in named.values()):
        shapes = ", ".join(f"`{name}` {values.shape}" for name, values in named.items())
        raise ValueError(f"{rule} Received: {file} with `embeddings` {rows.shape}, {shapes}.")
    paths = [Path(str(path)) for path in named["paths"]] if "paths" in named else None
    if "labels" in named:
        return rows, named["labels"].tolist(), paths
    return rows, [path.parent.name for path in paths or ()], paths
