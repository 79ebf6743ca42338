"""`facemargin zoo`: cards, weights and publication."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from keras_facemargin.cli.console import console, say, show_table

if TYPE_CHECKING:
    from keras_facemargin.zoo import Card

Name = Annotated[
    str,
    typer.Argument(
        help="Name in the zoo, folder with a card, published file, or hf:// or https:// address."
    ),
]


def zoo(context: typer.Context) -> None:
    """List embedders, show a card, fetch and verify weights, publish your own.

    Without a command it lists all embedders.

    Example: `facemargin zoo`
    """
    if context.invoked_subcommand is None:
        list_cards("*")


def list_cards(
    pattern: Annotated[str, typer.Argument(help="Names to list; * and ? are wildcards.")] = "*",
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Only those that are cleared for commercial use.")
    ] = False,
) -> None:
    """List the embedders of the zoo.

    LFW is measured by this project, or stated by others and marked with a star.

    Example: `facemargin zoo list "*mobile*"`
    """
    from keras_facemargin.zoo import list_embedders, load_card

    names = list_embedders(pattern, commercial=commercial or None)
    if not names:
        asked = f"{pattern!r}{' with --commercial' if commercial else ''}"
        ledger = ", `facemargin zoo show NAME` has each licence ledger" if commercial else ""
        say(f"No embedder of the zoo matches {asked}. `facemargin zoo` lists all{ledger}.")
        return
    heads = ("Embedder", "D", "Crop", "LFW %", "Threshold", "Commercial")
    table = Table(
        *(Column(head, no_wrap=True) for head in heads),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="* stated by others. A threshold's FAR: facemargin zoo show NAME",
    )
    for name in names:
        card = load_card(name)
        table.add_row(
            name,
            str(card.embedding_dim),
            f"{card.input.crop.height}x{card.input.crop.width}",
            _lfw(card),
            _threshold(card),
            "cleared" if card.commercial_use else "no",
        )
    show_table(table)


def show(
    model: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card's JSON.")] = False,
) -> None:
    """Show the card of an embedder: figures, licence ledger, sources, traps.

    Example: `facemargin zoo show spherenet_distilled`
    """
    from keras_facemargin.zoo import load_card

    card = load_card(model)
    if as_json:
        console.print_json(json.dumps(card.to_dict()))
        return
    say(f"{card.name}: {card.description}", style="bold")
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _rows(card):
        table.add_row(name, escape(value))
    show_table(table)


def fetch(
    model: Name,
    to: Annotated[Path, typer.Option("--to", help="Folder for the card and the weights.")],
) -> None:
    """Fetch the weights of an embedder and write them and their card into a folder.

    The file is written only if its SHA-256 is the card's. The folder is a model for every command.

    Example: `facemargin zoo fetch dlib_resnet --to dlib_resnet`
    """
    from keras_facemargin.zoo import CARD, copy_weights, find_weights, write_card

    if (to / CARD).exists():
        raise FileExistsError(
            f"A model is never copied over another. Received: {to / CARD} exists already. Name "
            "another folder with --to, or remove it."
        )
    card, file = find_weights(model)
    _print_licence(card)
    write_card(to / CARD, copy_weights(card, file, to))
    say(f"{to / card.weights.file}: {file.stat().st_size:,} bytes, SHA-256 as on the card")


def verify(model: Name) -> None:
    """Compare an embedder with its card: size, digest, figures and golden embedding.

    Example: `facemargin zoo verify spherenet_distilled`
    """
    from keras_facemargin.zoo import verify_embedder

    found = verify_embedder(model)
    say(f"{found.file}: size and SHA-256 as on the card of {found.card.name}")
    if found.cosine is None:
        say("golden embedding: the card has none")
    else:
        say(f"golden embedding: cosine {found.cosine:.7f}")


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder with card.json and its weights.")],
    check: Annotated[
        str | None,
        typer.Option(help="Address hf:// or https:// to compare with the folder after the upload."),
    ] = None,
) -> None:
    """Prepare a folder for the Hugging Face hub or a web server, and check the upload.

    Writes README.md with the fields of the hub, and a golden embedding into the card. Upload the
    folder as it is, with `hf upload OWNER/NAME FOLDER` or to any web server; --check reads every
    byte back.

    Example: `facemargin zoo publish my_embedder --check hf://OWNER/NAME`
    """
    from keras_facemargin.zoo import load_card, publish_folder, read_back

    page = publish_folder(folder)
    _print_licence(load_card(folder))
    if check is None:
        say(f"{page}: upload {folder} as it is, then check it with --check ADDRESS")
    else:
        names = read_back(folder, check)
        say(f"{check}: {', '.join(names)} are byte by byte those of {folder}")


def _lfw(card: "Card") -> str:
    found = card.find_measured("lfw")
    if found is not None:
        return f"{100 * found.accuracy:.2f} ± {100 * found.standard_error:.2f}"
    stated = [one.value for one in card.published if one.protocol == "lfw"]
    return f"{100 * stated[0]:.2f} *" if stated else "-"


def _threshold(card: "Card") -> str:
    if card.thresholds is None:
        return "-"
    chosen = card.thresholds.find(mirrored=True)
    return f"{chosen.cosine:.3f}"


def _rows(card: "Card") -> list[tuple[str, str]]:
    crop = card.input.crop
    size = "" if card.weights.bytes is None else f", {card.weights.bytes:,} bytes"
    rows = [
        ("Network", card.architecture),
        ("Parameters", "not known" if card.parameters is None else f"{card.parameters:,}"),
        ("Embedding", f"{card.embedding_dim} numbers, id {card.embedding_id or 'not known'}"),
        ("Crop", f"{crop.height}x{crop.width}, template {crop.template}"),
        ("File", f"{card.weights.file}{size}"),
        *(("Source", str(source)) for source in card.sources),
    ]
    rows += [("Measured", f"{one}. {one.notes}") for one in card.measured]
    for stated in card.published:
        words = f"{stated.protocol} {stated.measure} {stated.value:.2%} [{stated.stated_by}]"
        rows.append(("Stated", f"{words} {stated.notes}".strip()))
    if card.thresholds is not None:
        for kind, chosen in (
            *(("with mirror image", one) for one in card.thresholds.mirrored),
            *(("image alone", one) for one in card.thresholds.single),
        ):
            rows.append(("Threshold", f"cosine {chosen}, {kind}"))
    rows += [("Named bar", words) for words in card.bars]
    if card.groups is not None:
        rows += [
            ("Group", "{}: FMR {}; FNMR {}; own cosine {}".format(one.group, *one.cells))
            for one in card.groups.groups
        ]
        rows += [("Groups", words) for words in card.groups.sentences]
    rows += [("Licence", str(entry)) for entry in card.license]
    rows += [("Conflict", words) for words in card.license_conflicts]
    rows += [("Commercial use", "cleared" if card.commercial_use else "not cleared")]
    if card.training is not None:
        rows.append(("Training", card.training.data))
    rows += [("Lineage", line) for line in card.lineage]
    rows += [("Note", line) for line in card.notes]
    return [*rows, ("Caution", card.caution)]


def _print_licence(card: "Card") -> None:
    for entry in (*card.license, *card.license_conflicts):
        say(f"licence: {entry}", style="dim")
    if not card.commercial_use:
        say("Commercial use is not cleared.", style="yellow")
