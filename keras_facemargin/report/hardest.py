"""The pairs on which an embedder errs most, as pictures or by name."""

from keras_facemargin.evaluate import plot_hardest_pairs


def add_hardest(page, pairs, scores):
    """Pictures of the hardest pairs, where the images are at hand."""
    if pairs.first is None:
        return
    page.figure(
        plot_hardest_pairs(pairs, scores),
        "Where the embedder errs most. A genuine pair of two different people, or an impostor pair "
        "of one, is an error of the list: look before you blame.",
    )


def add_hardest_names(page, pairs, scores):
    """The hardest pairs, few and in order, as a table of names."""
    rows = [
        ["genuine" if same else "impostor", f"{score:.4f}", str(first), str(second)]
        for first, second, same, score in zip(
            pairs.first, pairs.second, pairs.same, scores, strict=True
        )
    ]
    page.table(
        ("Pair", "Score", "First", "Second"),
        rows,
        "Where the embedder errs most: the genuine pairs least alike and the impostor pairs most "
        "alike, by name, because their images are not at hand.",
    )
