"""Thresholds from every pair of a set of faces."""

from keras_facemargin.zoo.card import Threshold, Thresholds


def calibrate(embeddings, labels, far, data, progress=True) -> Thresholds:
    """The thresholds for a false accept rate, over every pair of a set of faces.

    They are the conservative ones: the smallest at which at most a share `far` of the pairs of two
    people is accepted. Calibrate on people whom the embedder has not been trained on and will not
    be tested on.

    Args:
        embeddings: ``(N, 2 * D)``, those of the mirror images appended, as
            `keras_facemargin.evaluate.embed` gives them. Their first half is the embeddings of the
            images alone.
        labels: ``(N,)``, whose face each is.
        far: the false accept rate, in ``[1 / impostor pairs, 1)``.
        data: what the faces are, for the card.
        progress: whether to draw a progress bar on standard error.

    Returns:
        `Thresholds`: one for each half's use.

    Raises:
        ValueError: as `verify_all_pairs`; the embeddings are not of that shape; there are too few
            impostor pairs for `far`.

    Example:

    >>> mirrored = [[1.0, 0.0, 1.0, 0.1], [0.9, 0.1, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0],
    ...             [0.1, 0.9, 0.2, 0.8]]
    >>> found = calibrate(mirrored, [1, 1, 2, 2], 0.3, "four faces", progress=False)
    >>> found.single.impostor_pairs, found.single.tar
    (4, 1.0)
    """
    import numpy as np

    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or embeddings.shape[1] % 2:
        raise ValueError(
            "`embeddings` must be of shape (N, 2 * D), as embed(..., flip=True) gives them. "
            f"Received: shape {embeddings.shape}"
        )
    single = embeddings[:, : embeddings.shape[1] // 2]
    return Thresholds(
        *(_calibrate(rows, labels, far, data, progress) for rows in (single, embeddings))
    )


def _calibrate(embeddings, labels, far, data, progress):
    from keras_facemargin.evaluate import verify_all_pairs

    found = verify_all_pairs(embeddings, labels, fars=[far], progress=progress)
    (entry,) = found.tar_at_far
    if not entry.supported:
        raise ValueError(
            "A threshold needs at least 1 / far impostor pairs: a rate that no pair could show is "
            f"a guess. Received: far={far:g}, which is {entry}. Calibrate on more people, or for a "
            f"rate of at least {1 / entry.impostors:.2g}."
        )
    return Threshold(
        cosine=entry.threshold,
        far=far,
        data=data,
        genuine_pairs=found.genuines,
        impostor_pairs=found.impostors,
        tar=entry.tar,
    )
