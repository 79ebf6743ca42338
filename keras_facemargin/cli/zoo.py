"""The zoo from the command line: its cards."""

import json
from typing import Annotated

import typer
from rich.table import Column, Table

from keras_facemargin.cli.console import console


def zoo(
    name: Annotated[str | None, typer.Argument(help="Print this embedder's whole card.")] = None,
):
    """List the embedders of the package, or print the card of one.

    Example: `facemargin zoo spherenet_distilled`
    """
    from keras_facemargin.zoo import list_embedders, load_card

    if name is not None:
        console.print_json(json.dumps(load_card(name).to_dict()))
        return
    table = Table(
        Column("Embedder", no_wrap=True),
        "Weights",
        "D",
        "LFW 10-fold",
        "Threshold",
        "Commercial use",
    )
    for known in list_embedders():
        card = load_card(known)
        result = card.find_measured("lfw")
        table.add_row(
            card.name,
            "-" if card.parameters is None else f"{card.parameters / 1e6:.2f} M",
            str(card.embedding_dim),
            "-" if result is None else f"{result.accuracy:.2%} ± {result.standard_error:.2%}",
            _mirrored(card.thresholds),
            "cleared" if card.commercial_use else "not cleared",
        )
    console.print(table)


def _mirrored(thresholds):
    if thresholds is None:
        return "-"
    chosen = thresholds.find(mirrored=True)
    return f"{chosen.cosine:.3f} at FAR {chosen.far:g}"
