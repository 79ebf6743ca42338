"""Writes zoo/README.md, the table of all embedders, from their cards.

python tools/assets/write_zoo_readme.py
"""

from keras_facemargin import zoo

HEADER = """\
# The zoo

Trained embedders, one folder each: `card.json` (lineage, licence, figures, thresholds) and weights.
A threshold is a cosine at the card's FAR, for embeddings with the mirror image's appended, which
`facemargin verify` compares, or for the image alone, which an exported file gives. This page is
written from the cards by `tools/assets/write_zoo_readme.py`.

| embedder | parameters | D | size | LFW | TAR at FAR 1e-3 | threshold | alone | commercial |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def zoo_readme():
    """The text of zoo/README.md."""
    cards = [zoo.load_card(name) for name in zoo.list_embedders()]
    return HEADER + "".join(map(_row, cards)) + "".join(map(_section, cards))


def _row(card):
    lfw = card.protocols["lfw"]
    cells = (
        f"`{card.name}`",
        f"{card.parameters:,}",
        f"{card.embedding_dim}",
        f"{card.weights.bytes / 1e6:.1f} MB",
        f"{lfw.accuracy:.2%} ± {lfw.standard_error:.2%}",
        f"{lfw.tar_at_far['1e-3']:.1%}",
        f"{card.thresholds.mirrored.cosine:.3f}",
        f"{card.thresholds.single.cosine:.3f}",
        "cleared" if card.licence.commercial_use else "not cleared",
    )
    return f"| {' | '.join(cells)} |\n"


def _section(card):
    bullets = "".join(f"- {item}\n" for item in (*card.licence.limits, *card.lineage))
    return (
        f"\n## {card.name}\n\n{card.description}\n\n"
        f"Architecture: {card.architecture}. Licence: {card.licence.weights}\n\n{bullets}\n"
        f"LFW: {card.protocols['lfw'].remarks}\n\nCaution: {card.caution}\n"
    )


if __name__ == "__main__":
    (zoo.DIRECTORY / "README.md").write_text(zoo_readme(), encoding="utf-8")
