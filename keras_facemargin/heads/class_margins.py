"""A margin for each class, for data with long tails: how heads read them, how to choose them.

The boundary of a class with few images generalises worse, so it gets a larger margin. Every head
whose margin applies to the true class alone takes one number, or one for each class.
"""

import numpy as np
from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_positive, shown


def read_margin(name, margin, num_classes, check):
    """A margin as a float, or one for each class as an array (C,).

    Args:
        name: of the argument.
        margin: a number, or C of them.
        num_classes: C.
        check: `check(name, number)`, which raises outside the margin's range, an interval.

    Raises:
        ValueError: `check` refuses a number; there are not C numbers.
    """
    if not isinstance(margin, list | tuple) and not getattr(margin, "shape", ()):
        check(name, margin)
        return float(margin)
    try:
        margins = np.asarray(margin, "float64")
    except (TypeError, ValueError):
        margins = np.empty(0)
    if margins.shape != (num_classes,):
        raise ValueError(
            f"`{name}` must be one number, or one for each of the {num_classes} classes. "
            f"Received: {name}={shown(margin)}."
        )
    for each in (margins.min(), margins.max()):  # a NaN is both
        check(name, float(each))
    return margins


def margin_of(margin, labels, dtype):
    """The margin from `read_margin` for each sample: the number, or a tensor (B, 1).

    Args:
        margin: float or array (C,).
        labels: (B,) int32; a label -1 gets any margin.
        dtype: of the tensor.
    """
    if isinstance(margin, float):
        return margin
    rows = ops.clip(labels, 0, len(margin) - 1)
    return ops.expand_dims(ops.take(ops.convert_to_tensor(margin, dtype), rows, axis=0), -1)


def margins_by_class_size(counts, largest=0.5):
    """A margin for each class from its number of images: larger for small classes.

    `m_j = C / n_j^(1/4)`, the constant C such that the smallest class has the margin `largest`:
    `m_j = largest (min n / n_j)^(1/4)`.

    Reference: Cao, Wei, Gaidon, Arechiga, Ma, "Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss", arXiv:1906.07413, whose LDAM loss is `CosFace` with these
    margins and s = 30. The paper leaves C open; its authors' code sets it by the largest margin,
    0.5, as this does.

    Args:
        counts: (C,) images of each class, in the order of the labels, each at least 1.
        largest: the margin of the smallest class, > 0, in the unit of the head that takes it.

    Returns:
        (C,) float64 array; pass it as `margin`.

    Raises:
        ValueError: `counts` are not the sizes of classes; `largest` is not positive.

    Example:

    >>> from keras_facemargin.heads import CosFace, margins_by_class_size
    >>> margins = margins_by_class_size([1, 16, 81], largest=0.36)
    >>> margins.round(2).tolist()
    [0.36, 0.18, 0.12]
    >>> head = CosFace(num_classes=3, margin=margins)
    """
    check_positive("largest", largest)
    sizes = np.asarray(counts)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes) or sizes.min() < 1:
        raise ValueError(
            "`counts` must be the number of images of each class, integers of at least 1. "
            f"Received: counts={shown(counts)}. Count them with "
            "`np.bincount(labels, minlength=num_classes)`; an empty class counts as 1."
        )
    return largest * (sizes.min() / sizes) ** 0.25
