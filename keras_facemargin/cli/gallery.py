"""Galleries of people: `gallery add`, `remove`, `list`, `rebuild`, `migrate`, and `identify`."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_facemargin.cli.alignment import note_crops, refuse_wrong_kind
from keras_facemargin.cli.console import Answer, say, show_table
from keras_facemargin.cli.files import image_files, printable
from keras_facemargin.cli.opening import open_model
from keras_facemargin.cli.options import (
    DEFAULT,
    Aligned,
    Detector,
    FileCrop,
    FilePixels,
    Json,
    MinFace,
)
from keras_facemargin.cli.photos import (
    box_of,
    faces_of,
    open_recognizer,
    print_caution,
    refuse_two_thresholds,
    threshold_of_card,
)

if TYPE_CHECKING:
    from keras_facemargin.gallery import EnrolledImage, Gallery, Migration
    from keras_facemargin.recognizer import Face, Recognizer
    from keras_facemargin.zoo import Embedder, Threshold

GalleryFile = Annotated[Path, typer.Argument(help="The gallery's file.")]
GalleryModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name in the zoo, folder with a card, or a .keras, .onnx or .tflite file. Default: "
        "the gallery's.",
    ),
]
IDENTIFIED, UNKNOWN, CANNOT_SAY = 0, 1, 2
_WARNINGS = 10  # lines of one command


def add(
    gallery: GalleryFile,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="PERSON PHOTO... | FOLDER",
            help="A name and photos of that person, or a folder with a subfolder for each person.",
        ),
    ],
    model: GalleryModel = None,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    aligned: Aligned = None,
    detector: Detector = None,
    min_face: MinFace = None,
    largest: Annotated[
        bool, typer.Option("--largest", help="Enrol the largest of several faces of a photo.")
    ] = False,
    any_quality: Annotated[
        bool, typer.Option("--any-quality", help="Enrol faces below the embedder's limits too.")
    ] = False,
    crops: Annotated[bool, typer.Option(help="Keep the crops, which `rebuild` needs.")] = True,
) -> None:
    """Enrol people in a gallery, one SQLite file; it is created if it is missing.

    A photo without a face, with several faces, or whose face is too blurred or too small is refused
    with the reason: a bad enrolled image is what makes strangers match. Then the exit code is 1,
    and the other photos are enrolled. A second run skips the photos that are enrolled. A photo that
    is enrolled under two names gives a warning.

    Example: `facemargin gallery add staff.gallery "Ada Lovelace" ada1.jpg ada2.jpg`
    """
    listed = list(_people_and_photos(what))
    name = model or _model_of(gallery)
    recognizer = open_recognizer(
        name, crop, pixels, detector=detector, min_face=min_face, aligned=aligned
    )
    if aligned:
        note_crops([photo for _, photos in listed for photo in photos], recognizer.embedder)
    refused, added, known = [], list[int](), 0
    with _open_gallery(gallery, recognizer, name) as opened:
        for person, photos in listed:
            faces: list[tuple[Path, Face, str]] = []
            for photo in photos:
                digest = hashlib.sha256(photo.read_bytes()).hexdigest()
                if digest in {each[2] for each in faces} or opened.has_photo(person, digest):
                    known += 1
                    continue
                found = _face_to_enrol(recognizer, photo, aligned, largest, any_quality)
                if isinstance(found, str):
                    refused.append(f"{photo}: {found}")
                else:
                    faces.append((photo, found, digest))
            if faces:
                added += opened.enrol(
                    person,
                    [face.embedding for _, face, _ in faces],
                    qualities=[face.quality for _, face, _ in faces],
                    sources=[printable(photo) for photo, _, _ in faces],
                    photos=[digest for _, _, digest in faces],
                    crops=[face.crop for _, face, _ in faces] if crops else None,
                    template=recognizer.embedder.crop.template,
                )
        people, images = len(opened), opened.num_images
        twice = opened.under_two_names(added)
    for line in refused:
        say(f"refused: {line}")
    _warn_of_two_names(twice, gallery)
    again = f", {known:,} enrolled before" if known else ""
    say(f"{gallery}: {_images(len(added))} added{again}, {len(refused):,} refused")
    say(f"{gallery} has {_people(people)} with {_images(images)}", style="dim")
    if refused:
        raise typer.Exit(1)


def remove(
    gallery: GalleryFile,
    person: Annotated[str | None, typer.Argument(help="Name of the person.")] = None,
    image: Annotated[
        int | None, typer.Option(help="Number of one image, as `list --images` prints it.")
    ] = None,
) -> None:
    """Remove a person or one image. Embeddings and crops are overwritten with zeros in the file.

    Example: `facemargin gallery remove staff.gallery "Ada Lovelace"`
    """
    from keras_facemargin.gallery import Gallery

    if (person is None) == (image is None):
        raise ValueError(
            "A person or an image is removed. Received: "
            f"{'neither' if person is None else 'both'}. Pass PERSON, or --image NUMBER."
        )
    with Gallery.open(gallery) as opened:
        if image is not None:
            say(f"{gallery}: image {image} of {opened.remove_image(image)} removed")
        else:
            count = opened.remove_person(str(person))
            say(f"{gallery}: {person} removed with {_images(count)}")


def list_people(
    gallery: GalleryFile,
    person: Annotated[str | None, typer.Argument(help="Only the images of this person.")] = None,
    images: Annotated[bool, typer.Option("--images", help="List the images.")] = False,
    as_json: Json = False,
) -> None:
    """List the people of a gallery, or the images.

    Example: `facemargin gallery list staff.gallery`
    """
    from rich.table import Table

    from keras_facemargin.gallery import Gallery

    with Gallery.open(gallery) as opened:
        rows: list[Any] = opened.images(person) if images or person is not None else opened.people()
        record: dict[str, Any] = {
            "gallery": str(gallery),
            "model": opened.model,
            "embedding_id": opened.embedding_id,
            "embedding_dim": opened.embedding_dim,
            "people": len(opened),
            "images": opened.num_images,
            "migration": opened.migration,
            "rows": [vars(row) for row in rows],
        }
    if as_json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return
    if rows:
        table = Table(*(name.replace("_", " ") for name in record["rows"][0]))
        for row in record["rows"]:
            table.add_row(*(_cell(value) for value in row.values()))
        show_table(table)
    say(f"{gallery}: {_people(record['people'])}, {_images(record['images'])}")
    say(f"embedder: {record['model']}, id {record['embedding_id'][:12]}", style="dim")
    if record["migration"]:
        say(f"migrated: {record['migration']}", style="dim")


def rebuild(
    gallery: GalleryFile,
    model: Annotated[str, typer.Option("--model", "-m", help="The new embedder.")],
    crop: FileCrop = None,
    pixels: FilePixels = None,
) -> None:
    """Embed the kept crops again with another embedder. The gallery changes in one step.

    Example: `facemargin gallery rebuild staff.gallery --model mobilefacenet_192`
    """
    from keras_facemargin.gallery import Gallery

    with Gallery.open(gallery) as opened:
        embedder = open_model(model, crop, pixels)
        count = opened.rebuild(
            lambda crops: embedder(crops, mirrored=True),
            crop=embedder.crop,
            embedding_id=_id_of(embedder, model),
            embedding_dim=2 * embedder.embedding_dim,
            model=_lasting(model),
        )
    say(f"{gallery}: {_images(count)} embedded again with {model}")


def migrate(
    gallery: GalleryFile,
    migrated: Annotated[Path, typer.Argument(help="File of the new gallery.")],
    to: Annotated[str, typer.Option("--to", help="The new embedder, as --model takes it.")],
    faces: Annotated[
        Path | None,
        typer.Option(help="Folder of aligned crops of other people, a subfolder for each person."),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option("--map", help=".npz file of the map: read if it exists, else written."),
    ] = None,
    any_price: Annotated[
        bool, typer.Option("--any-price", help="Migrate although the map does not work.")
    ] = False,
) -> None:
    """Copy a gallery for another embedder, without photos: map its embeddings, print the price.

    The map is fitted on FACES, four fifths of the people; the others measure its price: TAR of
    mapped with new embeddings at FAR 1e-3. A map that accepts more than 3 times as many strangers
    as intended, or loses more than 2 points of TAR against the weaker of the two embedders, does
    not work, and no gallery is written. GALLERY stays as it is.

    Example: `facemargin gallery migrate staff.gallery new.gallery --to mobilefacenet_192 --faces
    celebrities`
    """
    from keras_facemargin.files import check_writable, draft_of
    from keras_facemargin.gallery import Gallery, Migration

    if migrated.exists():
        raise ValueError(f"The new gallery must be a new file. Received: {migrated}, which exists.")

    with Gallery.open(gallery) as opened:
        check_writable(migrated)
        before = opened.model or "another embedder"
        new = open_model(to, None, None)
        id = _id_of(new, to)
        if id == opened.embedding_id:
            raise ValueError(
                f"A migration needs another embedder. Received: --to {to}, whose embeddings "
                f"{gallery} holds."
            )
        rebuild = None
        if opened.cannot_rebuild(new.crop) is None:
            rebuild = f"`facemargin gallery rebuild {gallery} --model {to}`"
        if map_file is not None and map_file.exists():
            migration = Migration.load(map_file)
        elif faces is None:
            raise ValueError(
                "A migration is fitted on faces. Received: no --faces, and no --map that exists. "
                f"Pass a folder of aligned crops of a few thousand people{_or_run(rebuild)}."
            )
        else:
            old = open_model(before, None, None)
            opened.check_embedder(_id_of(old, before), before)
            migration = _fit(faces, old, new, opened.embedding_id, id)
            if map_file is not None:
                migration.save(map_file)
        if (migration.old_id, migration.new_id) != (opened.embedding_id, id):
            raise ValueError(
                f"{map_file}: must map from {opened.embedding_id[:12]} to {id[:12]}. Received: a "
                f"map from {migration.old_id[:12]} to {migration.new_id[:12]}."
            )
        say(f"price: {migration.price}")
        if rebuild:
            say(f"The crops are kept: {rebuild} embeds them again, without that price.")
        if migration.price is not None and not migration.price.works and not any_price:
            raise ValueError(
                "A migration must keep the threshold and nearly all genuine pairs. Received: "
                f"{migration.price}. Enrol the photos again, or pass --any-price{_or_run(rebuild)}."
            )
        with draft_of(migrated) as draft, opened.copy(draft) as copy:
            count = copy.map_embeddings(
                migration.apply,
                embedding_id=id,
                embedding_dim=2 * new.embedding_dim,
                model=_lasting(to),
                note=f"from {before} (id {migration.old_id[:12]}): {migration.price}",
            )
    say(f"{migrated}: {count:,} embeddings mapped from {before} to {to}; {gallery} is unchanged")


def _or_run(rebuild: str | None) -> str:
    return f"; or run {rebuild}, which embeds the kept crops" if rebuild else ""


def _fit(faces: Path, old: "Embedder", new: "Embedder", old_id: str, new_id: str) -> "Migration":
    import numpy as np

    from keras_facemargin.evaluate import embed
    from keras_facemargin.gallery import fit_migration, price

    files = image_files([faces])
    people, numbers = np.unique([file.parent.name for file in files], return_inverse=True)
    judges = np.random.default_rng(0).permutation(len(people))[: len(people) // 5]
    held_out = np.isin(numbers, judges)
    of_old, of_new = (embed(embedder, files) for embedder in (old, new))
    migration = fit_migration(of_old[~held_out], of_new[~held_out], old_id=old_id, new_id=new_id)
    return price(migration, of_old[held_out], of_new[held_out], people=numbers[held_out])


def identify(
    gallery: GalleryFile,
    photo: Annotated[Path, typer.Argument(help="Photo; every face on it is searched.")],
    model: GalleryModel = None,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    aligned: Aligned = None,
    detector: Detector = None,
    min_face: MinFace = None,
    far: Annotated[
        float | None,
        typer.Option(
            help="False accept rate of one comparison, for which the card must have a threshold. "
            "Default: the card's nearest to 1e-3."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Smallest cosine that identifies. Default: the card's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Name the people on a photo, or call them unknown.

    The exit code is 0 if a face was identified, 1 if all faces are unknown, 2 if nothing can be
    said: no face, or only faces below the embedder's limits of quality. It is 64 after an error.

    --far is that of one comparison. A gallery of N people names a stranger with a probability of
    about 1 - (1 - FAR)^N, which the command prints.

    Example: `facemargin identify staff.gallery party.jpg`
    """
    from keras_facemargin.gallery import Gallery, expected_fpir

    refuse_two_thresholds(far, threshold)
    with Gallery.open(gallery) as opened:
        name = model or opened.model or DEFAULT
        recognizer = open_recognizer(
            name, crop, pixels, detector=detector, min_face=min_face, aligned=aligned
        )
        opened.check_embedder(recognizer.embedding_id, name)
        refuse_wrong_kind([photo], recognizer.embedder, aligned)
        chosen = threshold_of_card(recognizer, name, far, threshold)
        cosine = threshold if chosen is None else chosen.cosine
        faces = faces_of(recognizer, photo, aligned)
        answers = recognizer.identify(faces, opened, threshold=cosine)
        people = len(opened)
    record = {
        "gallery": str(gallery),
        "people": people,
        "photo": str(photo),
        "model": name,
        "threshold": cosine,
        "far": None if chosen is None else chosen.far,
        "expected_fpir": None if chosen is None else expected_fpir(chosen.far, people),
        "faces": [{"box": box_of(face), **vars(answer)} for face, answer in answers],
    }
    if as_json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
    else:
        _print_answers(record, chosen)
    raise Answer(_exit_code([answer.verdict for _, answer in answers]))


def _exit_code(verdicts: list[str]) -> int:
    if "identified" in verdicts:
        return IDENTIFIED
    return UNKNOWN if "unknown" in verdicts else CANNOT_SAY


def _print_answers(record: dict[str, Any], chosen: "Threshold | None") -> None:
    from rich.table import Table

    if not record["faces"]:
        say(f"cannot say: no face was found on {record['photo']}")
    else:
        table = Table("face", "at", "person", "cosine", "most similar")
        for number, face in enumerate(record["faces"], 1):
            at = "-" if face["box"] is None else "{},{} to {},{}".format(*face["box"])
            person = face["person"] or face["verdict"]
            table.add_row(
                *(str(number), at, person, f"{face['cosine']:.4f}", face["nearest"] or "-")
            )
        show_table(table)
        for number, face in enumerate(record["faces"], 1):
            if face["reason"]:
                say(f"face {number}: {face['reason']}")
    origin = "your own" if chosen is None else f"FAR {chosen.far:.2g} ({chosen.data})"
    say(f"threshold {record['threshold']:.4f}: {origin}", style="dim")
    if chosen is not None and record["people"]:
        say(
            f"{_people(record['people'])}: expect a stranger to be named as one of them in "
            f"{100 * record['expected_fpir']:.3g} % of searches (FPIR).",
            style="dim",
        )
    print_caution()


def _people_and_photos(what: list[str]) -> Iterator[tuple[str, list[Path]]]:
    """Name and photos of each person on the command line."""
    if len(what) > 1:
        if "/" in what[0] and Path(what[0]).exists():
            raise ValueError(
                f"The name of a person must come before the photos. Received: {what[0]}, which is "
                "a path. Pass NAME PHOTO..., or one folder with a subfolder for each person."
            )
        yield what[0], image_files(map(Path, what[1:]))
        return
    folder = Path(what[0])
    people = sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    people = [each for each in people if not each.name.startswith(".")]
    if not people:
        raise ValueError(
            "The people must be PERSON PHOTO..., or a folder with a subfolder for each person. "
            f"Received: {what[0]}"
        )
    for person in people:
        yield person.name, image_files([person])


def _open_gallery(path: Path, recognizer: "Recognizer", model: str) -> "Gallery":
    from keras_facemargin.gallery import Gallery

    return Gallery(
        path,
        embedding_id=_id_of(recognizer, model),
        embedding_dim=recognizer.embedding_dim,
        model=_lasting(model),
    )


def _id_of(embedder: Any, model: str) -> str:
    id = embedder.id_of(mirrored=True) if hasattr(embedder, "id_of") else embedder.embedding_id
    if id is None:
        raise ValueError(
            f"A gallery is bound to an embedder by its id. Received: {model}, which has none. "
            "Open the embedder from a file."
        )
    return str(id)


def _lasting(model: str) -> str:
    """The model's name as it opens from another folder too."""
    return str(Path(model).absolute()) if Path(model).exists() else model


def _model_of(gallery: Path) -> str:
    from keras_facemargin.gallery import Gallery

    if not gallery.exists() or not gallery.stat().st_size:
        return DEFAULT
    with Gallery.open(gallery) as opened:
        return opened.model or DEFAULT


def _face_to_enrol(
    recognizer: "Recognizer", photo: Path, aligned: bool | None, largest: bool, any_quality: bool
) -> "Face | str":
    """The face to enrol, or the reason for a refusal."""
    from keras_facemargin.images import BadImage
    from keras_facemargin.quality import shortfall

    try:
        if not aligned:  # the command has looked at aligned crops
            refuse_wrong_kind([photo], recognizer.embedder, aligned)
        faces = faces_of(recognizer, photo, aligned)
    except BadImage as error:
        return error.reason
    if not faces:
        return "no face was found."
    if len(faces) > 1 and not largest:
        return f"{len(faces)} faces were found. Cut out one, or pass --largest."
    reason = recognizer.shortcoming(faces[0])
    if reason and not any_quality:
        return f"{reason} Pass --any-quality to enrol it all the same."
    limits = recognizer.quality
    fault = None if limits is None else shortfall(faces[0].quality, limits)
    if fault and not any_quality:
        return f"the face {fault}. Pass --any-quality to enrol it all the same."
    return faces[0]


def _warn_of_two_names(
    pairs: "list[tuple[EnrolledImage, EnrolledImage, float]]", gallery: Path
) -> None:
    for one, other, cosine in pairs[:_WARNINGS]:
        say(
            f"warning: {one.person} (image {one.id}, {one.source}) and {other.person} (image "
            f"{other.id}, {other.source}) seem to have one photo: cosine {cosine:.4f}. A search "
            f"names either. Remove the wrong one: facemargin gallery remove {gallery} --image "
            "NUMBER"
        )
    if len(pairs) > _WARNINGS:
        say(f"warnings not printed: {len(pairs) - _WARNINGS:,}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
