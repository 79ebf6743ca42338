"""Every loss again, in plain float64 loops written from its paper. Nothing here is fast or shared.

One function a head, named as the head's file. It takes the head (for its parameters and state, read
as plain numbers), embeddings (B, D), labels (B,), prototypes (C, D), and `at`: the embeddings and
prototypes at which whatever carries no gradient is taken, so that finite differences of a reference
are the gradient that the paper means. It returns logits (B, C) and losses (B,), numpy float64.
"""

import math
import sys
from typing import NamedTuple

import numpy as np


def of(head):
    """The reference of a head."""
    name = type(head).__module__.rpartition(".")[2]
    reference = getattr(sys.modules[__name__], name, None)
    assert reference, f"write `{name}` in tests/references.py, in plain loops, from the paper"
    return lambda *batch, at=None: reference(head, *batch, at=at)


def norm(a):
    return math.sqrt(sum(float(p) ** 2 for p in a))


def cosine(a, b):
    if np.ndim(b) == 2:  # sub-centres: the nearest counts
        return max(cosine(a, center) for center in b)
    dot = sum(float(p) * float(q) for p, q in zip(a, b, strict=True))
    return max(-1.0, min(1.0, dot / (norm(a) * norm(b))))


class Pair(NamedTuple):
    """A sample and a class: cosine and norm of the embedding, the cosine to its own class, that."""

    c: float
    norm: float
    own: float
    label: int


def pairs(x, y, w):
    return [
        [Pair(cosine(a, p), norm(a), cosine(a, w[label]), label) for p in w]
        for a, label in zip(x, y, strict=True)
    ]


def similarities(head, x, y, w, at, own, other=lambda now, then: now.c):
    """own(now, then) for the true class, other(now, then) else; `then` carries no gradient."""
    table = np.zeros((len(x), len(w)))
    here = pairs(x, y, w)
    there = here if at is None else pairs(at[0], y, at[1])
    for i, label in enumerate(y):
        for j in range(len(w)):
            now, then = here[i][j], there[i][j]
            move = own if j == label else other
            if head.detach_margin:  # the value of the margin, the gradient of the cosine
                table[i, j] = now.c + move(then, then) - then.c
            else:
                table[i, j] = move(now, then)
    return table


def scaled(head, x, y, w, at, own, other=lambda now, then: now.c):
    logits = number(head.scale_weight) * similarities(head, x, y, w, at, own, other)
    return logits, cross_entropy(logits, y)


def of_class(margin, label):
    """The margin of a class, where each has its own."""
    return float(margin[label]) if np.ndim(margin) else margin


def times_norm(table, x):
    return np.array([norm(a) * row for a, row in zip(x, table, strict=True)])


def number(weight):
    return float(np.asarray(weight.numpy() if hasattr(weight, "numpy") else weight))


def cross_entropy(logits, labels):
    losses = []
    for row, label in zip(logits, labels, strict=True):
        largest = max(row)
        losses.append(math.log(sum(math.exp(z - largest) for z in row)) + largest - row[label])
    return np.array(losses)


def softplus(z):
    return math.log1p(math.exp(z)) if z < 30 else z


def binary(logits, labels, own_weight, other_weight):
    losses = []
    for row, label in zip(logits, labels, strict=True):
        own = softplus(-row[label])
        others = sum(softplus(z) for j, z in enumerate(row) if j != label)
        losses.append(own_weight * own + other_weight * others)
    return np.array(losses)


def arc(c, margin, continuation="reflect"):
    theta = math.acos(c)
    if continuation == "easy":
        return math.cos(theta + margin) if c > 0 else c
    if theta < math.pi - margin or continuation == "none":
        return math.cos(theta + margin)
    if continuation == "linear":
        return c - margin * math.sin(margin)
    if continuation == "clip":
        return -1.0
    return -2 - math.cos(theta + margin)


def fall(angle, continuation):
    if continuation == "none":
        return math.cos(angle)
    if continuation == "clip":
        return math.cos(min(angle, math.pi))
    k = int(angle / math.pi)
    return (-1) ** k * math.cos(angle) - 2 * k


def psi(theta, margin):
    k = min(int(margin * theta / math.pi), margin - 1)
    return (-1) ** k * math.cos(margin * theta) - 2 * k


def annealing(head):
    return max(head.minimum, head.base * (1 + head.gamma * number(head.step)) ** -head.power)


def variant(head, c, margin, continuation="reflect"):
    return {
        "plain": lambda: c,
        "am": lambda: c - margin,
        "arc": lambda: arc(c, margin, continuation),
    }[head.variant]()


# One a head.


def softmax(head, x, y, w, at=None):
    logits = np.zeros((len(x), len(w)))
    for i, a in enumerate(x):
        for j, p in enumerate(w):
            logits[i, j] = sum(q * r for q, r in zip(a, p, strict=True))
    return logits, cross_entropy(logits, y)


def l2_softmax(head, x, y, w, at=None):
    return softmax(head, [[head.alpha * p / norm(a) for p in a] for a in x], y, w)


def normface(head, x, y, w, at=None):
    return scaled(head, x, y, w, at, lambda now, then: now.c)


def large_margin_softmax(head, x, y, w, at=None):
    weight = annealing(head)
    logits = np.zeros((len(x), len(w)))
    for i, a in enumerate(x):
        for j, p in enumerate(w):
            c = cosine(a, p)
            if j == y[i]:
                c = (weight * c + psi(math.acos(c), head.margin)) / (1 + weight)
            logits[i, j] = norm(a) * norm(p) * c
    return logits, cross_entropy(logits, y)


def sphereface(head, x, y, w, at=None):
    weight = annealing(head)

    def own(now, then):
        return (weight * now.c + psi(math.acos(now.c), head.margin)) / (1 + weight)

    logits = times_norm(similarities(head, x, y, w, at, own), x)
    return logits, cross_entropy(logits, y)


def sphereface_r(head, x, y, w, at=None):
    def own(now, then):
        theta = math.acos(now.c)
        return {
            "v0": lambda: fall(head.margin * theta, "reflect"),
            "v1": lambda: math.cos(min(head.margin * theta, math.pi)),
            "v2": lambda: now.c,
        }[head.version]()

    def other(now, then):
        return math.cos(math.acos(now.c) / head.margin) if head.version == "v2" else now.c

    table = similarities(head, x, y, w, at, own, other)
    logits = head.scale * table if head.normalization == "hard" else times_norm(table, x)
    losses = cross_entropy(logits, y)
    if head.normalization != "none":
        losses = 50.0 / head.scale * losses
    if head.normalization == "soft":
        losses = losses + np.array([0.01 * abs(norm(a) - head.scale) for a in x])
    return logits, losses


def sphereface2(head, x, y, w, at=None):
    def g(c):
        return 2 * ((c + 1) / 2) ** head.sharpness - 1

    def own(now, then):
        theta = math.acos(now.c)
        return {
            "C": lambda: g(now.c) - head.margin,
            "A": lambda: g(math.cos(min(math.pi, theta + head.margin))),
            "M": lambda: g(math.cos(min(math.pi, theta * head.margin))),
        }[head.variant]()

    def other(now, then):
        return g(now.c) + (head.margin if head.variant == "C" else 0.0)

    table = similarities(head, x, y, w, at, own, other)
    logits = head.scale * table + number(head.shared_bias)
    factor = head.loss_weight / head.scale
    return logits, factor * binary(logits, y, head.balance, 1 - head.balance)


def cosface(head, x, y, w, at=None):
    def own(now, then):
        return now.c - of_class(head.margin, now.label)

    return scaled(head, x, y, w, at, own)


def arcface(head, x, y, w, at=None):
    def own(now, then):
        return arc(now.c, of_class(head.margin, now.label), head.continuation)

    return scaled(head, x, y, w, at, own)


def combined_margin(head, x, y, w, at=None):
    def own(now, then):
        m2, m3 = (of_class(m, now.label) for m in (head.m2, head.m3))
        return fall(head.m1 * math.acos(now.c) + m2, head.continuation) - m3

    return scaled(head, x, y, w, at, own)


def adacos(head, x, y, w, at=None):
    return scaled(head, x, y, w, at, lambda now, then: now.c)


def sv_softmax(head, x, y, w, at=None):
    t = head.hardness

    def own(now, then):
        return variant(head, now.c, of_class(head.margin, now.label))

    def other(now, then):
        margin = of_class(head.margin, now.label)
        is_support_vector = variant(head, now.own, margin) - now.c < 0
        weight = math.exp(head.scale * (t - 1) * (now.c + 1)) if is_support_vector else 1.0
        return math.log(weight) / head.scale + now.c

    return scaled(head, x, y, w, at, own, other)


def mv_softmax(head, x, y, w, at=None):
    t = head.hardness

    def own(now, then):
        return variant(head, now.c, of_class(head.margin, now.label))

    def other(now, then):
        if now.c <= variant(head, now.own, of_class(head.margin, now.label)):
            return now.c
        exponent = t if head.mode == "fixed" else t * (now.c + 1)
        return math.log(math.exp(head.scale * exponent)) / head.scale + now.c

    return scaled(head, x, y, w, at, own, other)


def curricularface(head, x, y, w, at=None):
    def own(now, then):
        return arc(now.c, head.margin, head.continuation)

    def other(now, then):
        is_hard = now.c > math.cos(math.acos(now.own) + head.margin)
        return now.c * (number(head.t) + now.c) if is_hard else now.c

    return scaled(head, x, y, w, at, own, other)


def adaface(head, x, y, w, at=None):
    def own(now, then):
        length = max(1e-3, min(100.0, then.norm))
        deviation = number(head.norm_deviation) + 1e-3
        q = head.concentration * (length - number(head.norm_mean)) / deviation
        q = max(-1.0, min(1.0, q))
        m = of_class(head.margin, now.label)
        angle = max(0.0, math.acos(now.c) - m * q)
        return fall(angle, head.continuation) - (m + m * q)

    return scaled(head, x, y, w, at, own)


def magface(head, x, y, w, at=None):
    (low, high), (near, far) = head.margin, head.norm_range

    def clipped(length):
        return max(near, min(far, length))

    def own(now, then):
        margin = (high - low) / (far - near) * (clipped(now.norm) - near) + low
        return arc(now.c, margin, head.continuation)

    logits, losses = scaled(head, x, y, w, at, own)
    lengths = [clipped(norm(a)) for a in x]
    penalty = np.array([head.regularization * (a / far**2 + 1 / a) for a in lengths])
    return logits, losses + penalty


def elasticface(head, x, y, w, at=None):
    """Outside training, where the margin is its mean."""

    def own(now, then):
        return variant(head, now.c, of_class(head.margin, now.label), head.continuation)

    return scaled(head, x, y, w, at, own)


def subcenter_arcface(head, x, y, w, at=None):
    return arcface(head, x, y, w, at)


def circle_loss(head, x, y, w, at=None):
    m = head.margin

    def own(now, then):
        return max(0.0, 1 + m - then.c) * (now.c - (1 - m))

    def other(now, then):
        return max(0.0, then.c + m) * (now.c - m)

    return scaled(head, x, y, w, at, own, other)


def uniface(head, x, y, w, at=None):
    def own(now, then):
        return now.c - of_class(head.margin, now.label)

    table = similarities(head, x, y, w, at, own)
    logits = head.scale * table - number(head.threshold)
    return logits, binary(logits, y, 1.0, 1.0)
