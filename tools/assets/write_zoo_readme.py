"""Writes zoo/README.md, the table of all embedders, from their cards.

python tools/assets/write_zoo_readme.py
"""

from keras_facemargin import zoo

HEADER = """\
# The zoo

One folder for each embedder: `card.json` (lineage, licence, figures, thresholds) and, where the
licence allows it, the weights. `card.schema.json` lists the fields. This page is written from the
cards by `tools/assets/write_zoo_readme.py`.

A threshold is a cosine at FAR 1e-3, for embeddings with the mirror image's appended, which
`facemargin verify` compares, or for the image alone, which an exported file gives. "Measured" is
this project's own figure with its command on the card; "stated" is a figure that others publish.

| embedder | parameters | D | crop | LFW measured | LFW stated | threshold | alone | commercial |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def zoo_readme():
    """The text of zoo/README.md."""
    cards = [zoo.load_card(name) for name in zoo.list_embedders()]
    return HEADER + "".join(map(_row, cards)) + "".join(map(_section, cards))


def _row(card):
    lfw = card.find_measured("lfw")
    stated = [one.value for one in card.published if one.protocol == "lfw"]
    cells = (
        f"[`{card.name}`](#{card.name})",
        "-" if card.parameters is None else f"{card.parameters:,}",
        f"{card.embedding_dim}",
        f"{card.input.crop.height}x{card.input.crop.width}",
        "-" if lfw is None else f"{lfw.accuracy:.2%} ± {lfw.standard_error:.2%}",
        f"{stated[0]:.2%}" if stated else "-",
        *(
            "-" if card.thresholds is None else f"{card.thresholds.find(mirrored=kind).cosine:.3f}"
            for kind in (True, False)
        ),
        "cleared" if card.commercial_use else "not cleared",
    )
    return f"| {' | '.join(cells)} |\n"


def _section(card):
    paragraphs = [
        f"## {card.name}",
        card.description,
        f"Architecture: {card.architecture}. File: {card.weights.file}, {_size(card)}. Sources: "
        f"{'; '.join(map(str, card.sources))}.",
        "Licence ledger:",
        "\n".join(f"- {entry}" for entry in (*card.license, *card.license_conflicts)),
    ]
    if card.lineage:
        paragraphs += ["Lineage:", "\n".join(f"- {line}" for line in card.lineage)]
    if card.notes:
        paragraphs += ["Notes:", "\n".join(f"- {line}" for line in card.notes)]
    for one in card.published:
        words = f"{one.protocol.upper()} {one.measure} {one.value:.2%}, stated by {one.stated_by}."
        paragraphs.append(f"{words} {one.notes}".strip())
    for one in card.measured:
        kind = "with the mirror image" if one.mirrored else "image alone"
        paragraphs.append(
            f"{one.protocol.upper()}, {kind}, measured: {one.accuracy:.2%} ± "
            f"{one.standard_error:.2%}. {one.notes}".strip()
        )
    return "\n" + "\n\n".join([*paragraphs, f"Caution: {card.caution}"]) + "\n"


def _size(card):
    return "size unknown" if card.weights.bytes is None else f"{card.weights.bytes / 1e6:.1f} MB"


if __name__ == "__main__":
    (zoo.DIRECTORY / "README.md").write_text(zoo_readme(), encoding="utf-8")
