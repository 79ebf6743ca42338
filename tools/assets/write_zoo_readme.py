"""Writes zoo/README.md, the page of all embedders, and the table in README.md from the cards.

python tools/assets/write_zoo_readme.py
"""

from pathlib import Path

from keras_facemargin import zoo
from keras_facemargin.cli.options import DEFAULT

HEADER = """\
# The zoo

<!-- --8<-- [start:table] -->
One folder for each embedder: `card.json` (lineage, licence, figures, thresholds) and, where the
licence allows it, the weights. `card.schema.json` lists the fields. This page is written from the
cards by `tools/assets/write_zoo_readme.py`.

A threshold is a cosine at FAR 1e-3, for embeddings with the mirror image's appended, which
`facemargin verify` compares, or for the image alone, which an exported file gives. "Measured" is
this project's own figure with its command on the card; "stated" is a figure that others publish.

| embedder | parameters | D | crop | LFW measured | LFW stated | threshold | alone | commercial |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""

# Marks for docs/zoo.md, which shows the table first and the cards last.
TABLE_END = "<!-- --8<-- [end:table] -->\n<!-- --8<-- [start:cards] -->\n"
CARDS_END = "<!-- --8<-- [end:cards] -->\n"

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN = "<!-- zoo: written by tools/assets/write_zoo_readme.py -->\n"
END = "<!-- end of zoo -->"
SHORT_HEADER = """\
| embedder | parameters | D | LFW measured | LFW stated by others | commercial use |
| --- | --- | --- | --- | --- | --- |
"""
SHORT_ROWS = 8  # of the page of the project; the zoo's page has all


def zoo_readme():
    """The text of zoo/README.md."""
    cards = [zoo.load_card(name) for name in zoo.list_embedders()]
    table, sections = "".join(map(_row, cards)), "".join(map(_section, cards))
    return f"{HEADER}{table}{TABLE_END}{sections}{CARDS_END}"


def readme():
    """The text of README.md with the current table."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    cards = [zoo.load_card(name) for name in zoo.list_embedders()]
    chosen = sorted(cards, key=_rank)[:SHORT_ROWS]
    more = f"and {len(cards) - len(chosen)} more in [the zoo](zoo/README.md)"
    table = SHORT_HEADER + "".join(map(_short_row, chosen)) + f"| {more} | | | | | |\n"
    return f"{before}{BEGIN}{table}{END}{after}"


def _rank(card):
    """The default first, then measured ones, those with a stated figure, and by name."""
    measured, stated = card.find_measured("lfw"), _stated(card)
    figure = measured.accuracy if measured else stated or 0
    return (card.name != DEFAULT, measured is None, -figure, card.name)


def _stated(card):
    return next((one.value for one in card.published if one.protocol == "lfw"), None)


def _figures(card):
    lfw, stated = card.find_measured("lfw"), _stated(card)
    return (
        "-" if lfw is None else f"{lfw.accuracy:.2%} ± {lfw.standard_error:.2%}",
        "-" if stated is None else f"{stated:.2%}",
    )


def _short_row(card):
    cells = (
        f"[{card.name}](zoo/README.md#{card.name})",
        "-" if card.parameters is None else f"{card.parameters:,}",
        f"{card.embedding_dim}",
        *_figures(card),
        "cleared" if card.commercial_use else "not cleared",
    )
    return f"| {' | '.join(cells)} |\n"


def _row(card):
    cells = (
        f"[`{card.name}`](#{card.name})",
        "-" if card.parameters is None else f"{card.parameters:,}",
        f"{card.embedding_dim}",
        f"{card.input.crop.height}x{card.input.crop.width}",
        *_figures(card),
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
    paragraphs += [f"Measured: {one}. {one.notes}".strip() for one in card.measured]
    if card.thresholds is not None:
        paragraphs.append(_thresholds(card.thresholds))
        paragraphs += ["Named bars:", "\n".join(f"- {words}" for words in card.bars)]
    if card.groups is not None:
        paragraphs += [card.groups.table, " ".join(card.groups.sentences)]
    return "\n" + "\n\n".join([*paragraphs, f"Caution: {card.caution}"]) + "\n"


def _thresholds(thresholds):
    """A table of the thresholds, and the pairs that they were calibrated on."""
    lines = ["| FAR | with the mirror image | image alone |", "| --- | --- | --- |"]
    single = {(one.far, one.group): one for one in thresholds.single}
    for one in thresholds.mirrored:
        alone = single.get((one.far, one.group))
        far = f"{one.far:.0e}".replace("e-0", "e-")
        lines.append(f"| {far} | {_cosine(one)} | {'-' if alone is None else _cosine(alone)} |")
    of = ", ".join(dict.fromkeys(one.data for one in (*thresholds.mirrored, *thresholds.single)))
    return "\n".join(lines) + f"\n\nThresholds, and genuine pairs accepted at them: {of}."


def _cosine(threshold):
    return f"{threshold.cosine:.4f} (TAR {threshold.tar:.1%})"


def _size(card):
    return "size unknown" if card.weights.bytes is None else f"{card.weights.bytes / 1e6:.1f} MB"


if __name__ == "__main__":
    (zoo.DIRECTORY / "README.md").write_text(zoo_readme(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
