"""The annealing that L-Softmax and SphereFace share: from plain softmax to their margin.

`lambda = max(minimum, base (1 + gamma n)^(-power))` at training step n = 1, 2, ...; the target
becomes `(lambda plain + margin) / (1 + lambda)` (arXiv:1704.08063, appendix G).

Step n is a weight of the head: it is saved, restored and equal on all replicas. (In the authors'
Caffe layer it is not in the snapshot, so that a resumed run restarts its annealing.)
"""

from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_at_least


def set_schedule(head, **numbers):
    """Checks and stores base, gamma, power and minimum of the annealing, each at least 0."""
    for name, value in numbers.items():
        check_at_least(name, value, 0)
        setattr(head, name, float(value))


def add_step(head):
    """The counter of training steps, a weight of the head."""
    return head.add_weight(
        name="step",
        shape=(),
        dtype="int32",
        initializer="zeros",
        trainable=False,
        aggregation="only_first_replica",
    )


def annealed(head):
    """Lambda of a head at its current `step`, a float scalar."""
    step = ops.cast(head.step, head.compute_dtype)
    return ops.maximum(head.minimum, head.base * (1.0 + head.gamma * step) ** (-head.power))


def mix(head, plain, margined):
    """`(lambda plain + margined) / (1 + lambda)`."""
    weight = annealed(head)
    return (weight * plain + margined) / (1.0 + weight)
