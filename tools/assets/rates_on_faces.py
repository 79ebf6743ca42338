"""The rates that an embedder's thresholds have on all pairs of other faces, for its card."""

import numpy as np

from keras_facemargin.evaluate.cosine import unit_rows


def rates_on(faces, embeddings, labels, thresholds):
    """The rates of the thresholds on all pairs of other faces, in words.

    Args:
        faces: what the images are, such as "13,232 images of 5,749 people of LFW".
        embeddings: (N, 2 D), the mirror image's behind each.
        labels: int (N,).
        thresholds: of the card.
    """
    straight = embeddings[:, : embeddings.shape[1] // 2]
    return (
        f"On all pairs of {faces} the thresholds have FARs of "
        f"{far_of(embeddings, labels, thresholds.mirrored)} with the mirror image, and "
        f"{far_of(straight, labels, thresholds.single)} alone."
    )


def far_of(embeddings, labels, thresholds):
    units = unit_rows(embeddings, "embeddings")
    counts, pairs = np.zeros(len(thresholds), int), 0
    for row in range(0, len(units), 1000):
        scores = units[row : row + 1000] @ units.T
        later = np.arange(len(units)) > np.arange(row, row + len(scores))[:, None]
        impostor = scores[later & (labels[row : row + 1000, None] != labels)]
        pairs += len(impostor)
        counts += [np.count_nonzero(impostor >= each.cosine) for each in thresholds]
    return ", ".join(f"{count / pairs:.1e}".replace("e-0", "e-") for count in counts)
