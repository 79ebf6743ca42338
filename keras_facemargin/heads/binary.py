"""The binary form: a yes-or-no question per class instead of one choice among all."""

from keras import ops


def binary_losses(logits, is_target, own_weight=1.0, other_weight=1.0):
    """`w_y log(1 + exp(-z_y)) + w_o sum over j != y of log(1 + exp(z_j))` per sample.

    Args:
        logits: (B, C) float.
        is_target: (B, C) bool.
        own_weight, other_weight: floats.

    Returns:
        (B,) float, in nats.
    """
    own = ops.where(is_target, ops.softplus(-logits), 0.0)
    others = ops.where(is_target, 0.0, ops.softplus(logits))
    return own_weight * ops.sum(own, axis=-1) + other_weight * ops.sum(others, axis=-1)
