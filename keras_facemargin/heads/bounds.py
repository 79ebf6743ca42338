"""Bounds that the papers prove for their parameters: smallest scale, range of margins.

Plain arithmetic on Python numbers. Heads call these in the constructor or in `build`, and warn.
"""

import math
import warnings

from keras_facemargin.heads.margin_head.arguments import check_integer, check_number, check_positive


def alpha_lower_bound(num_classes, probability=0.9):
    """Smallest alpha with which L2-constrained softmax can reach a mean class probability.

    `alpha_low = log(p (C - 2) / (1 - p))` (arXiv:1703.09507, section 3.3; Crystal loss,
    arXiv:1804.01159). Model: one other class at 180 degrees, C - 2 at 90; the term exp(-alpha) is
    dropped, as in the paper, which matters for a handful of classes only.

    Args:
        num_classes: C, integer >= 3.
        probability: p, the expected softmax probability of the right class, in (0, 1); the paper's
            choice is 0.9.

    Returns:
        float, a length of the embedding.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> round(alpha_lower_bound(13403), 4)
    11.7003
    """
    _check(num_classes, 3, probability)
    return math.log(probability * (num_classes - 2) / (1.0 - probability))


def scale_lower_bound(num_classes, probability=0.9):
    """Smallest scale s of a softmax over cosines that can reach a class probability at its centre.

    `s >= (C - 1) / C * log((C - 1) P / (1 - P))` (CosFace, arXiv:1801.09414, Eq. 6; equality where
    the prototypes form a regular simplex). It holds for every head with unit embeddings and unit
    prototypes; a margin needs more.

    Args:
        num_classes: C, integer >= 2.
        probability: P, the posterior expected at the class centre, in (0, 1).

    Returns:
        float.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> round(scale_lower_bound(10575), 4)
    11.4623
    """
    _check(num_classes, 2, probability)
    return (
        (num_classes - 1)
        / num_classes
        * math.log((num_classes - 1) * probability / (1.0 - probability))
    )


def cosine_margin_upper_bound(num_classes, embedding_dim):
    """Largest CosFace margin that classes spread over the sphere can satisfy.

    `m <= 1 - cos(2 pi / C)` for embeddings in the plane; `m <= C / (C - 1)` where C <= K + 1;
    *much smaller than* C / (C - 1) beyond, where the paper gives no sharper number
    (arXiv:1801.09414, Eq. 7).

    Args:
        num_classes: C, integer >= 2.
        embedding_dim: K, integer >= 2.

    Returns:
        float, in units of cosine.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> round(cosine_margin_upper_bound(8, 2), 6)
    0.292893
    """
    _check(num_classes, 2, 0.5)
    check_integer("embedding_dim", embedding_dim, 2)
    if embedding_dim == 2:
        return 1.0 - math.cos(2.0 * math.pi / num_classes)
    return num_classes / (num_classes - 1)


def angle_multiplier_lower_bound(num_classes):
    """Smallest SphereFace multiplier under which every class is tighter than its gap to the next.

    `2 + sqrt(3)` for two classes, 3 for more, with evenly spread prototypes (arXiv:1704.08063,
    section 3.4); hence the paper's m = 4.

    Args:
        num_classes: C, integer >= 2.

    Returns:
        float.

    Example:

    >>> angle_multiplier_lower_bound(1000)
    3.0
    """
    _check(num_classes, 2, 0.5)
    return 2.0 + math.sqrt(3.0) if num_classes == 2 else 3.0


def loss_lower_bound(num_classes, scale):
    """The loss that a softmax over scaled cosines cannot fall below.

    `log(1 + (C - 1) exp(-s C / (C - 1)))` (NormFace, arXiv:1704.06369, proposition 2, with the
    squared norm l^2 written as the scale s).

    Args:
        num_classes: C, integer >= 2.
        scale: s > 0.

    Returns:
        float, in nats.

    Example:

    >>> round(loss_lower_bound(10575, 1.0), 4)
    8.2663
    """
    _check(num_classes, 2, 0.5)
    check_positive("scale", scale)
    return math.log1p((num_classes - 1) * math.exp(-scale * num_classes / (num_classes - 1)))


def warn_if_below(head, name, value, bound, source, stacklevel=3):
    """Warns that a head's parameter is below the bound that its paper proves."""
    if value < bound:
        warnings.warn(
            f"{head}: `{name}` should be at least {bound:.4g} for this number of classes "
            f"({source}). Received: {name}={value:.4g}. The loss cannot become small: "
            f"raise `{name}`.",
            stacklevel=stacklevel,
        )


def warn_if_scale_is_low(head):
    """`warn_if_below` for the scale of a head with unit embeddings and unit prototypes."""
    bound = scale_lower_bound(head.num_classes)
    source = "arXiv:1801.09414, Eq. 6"
    warn_if_below(type(head).__name__, "scale", head.scale, bound, source, stacklevel=4)


def warn_if_above(head, name, value, bound, source):
    """Warns that a head's parameter is above the bound that its paper proves."""
    if value > bound:
        warnings.warn(
            f"{head}: `{name}` should be at most {bound:.4g} for this number of classes and this "
            f"embedding ({source}). Received: {name}={value:.4g}. No arrangement of the classes "
            f"satisfies it: lower `{name}`.",
            stacklevel=3,
        )


def _check(num_classes, least, probability):
    check_integer("num_classes", num_classes, least)
    rule = "must be strictly between 0 and 1"
    check_number("probability", probability, rule, lambda share: 0.0 < share < 1.0)
