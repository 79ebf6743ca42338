"""Every loss again, in plain float64 loops written from its paper. Nothing here is fast or shared.

Each function takes embeddings (B, D), labels (B,), prototypes (C, D), the head's parameters, and
returns the logits (B, C) as numpy float64.
"""

import math

import numpy as np


def cosine(a, b):
    dot = sum(float(p) * float(q) for p, q in zip(a, b, strict=True))
    return dot / (norm(a) * norm(b))


def norm(a):
    return math.sqrt(sum(float(p) ** 2 for p in a))


def _fill(embeddings, labels, prototypes, own, other):
    """Logit of every (sample, class): own(x, w) for the label's class, other(x, w, w_y) else."""
    logits = np.zeros((len(embeddings), len(prototypes)))
    for i, x in enumerate(embeddings):
        for j, w in enumerate(prototypes):
            logits[i, j] = own(x, w) if labels[i] == j else other(x, w, prototypes[labels[i]])
    return logits


def softmax(embeddings, labels, prototypes, bias):
    logits = np.zeros((len(embeddings), len(prototypes)))
    for i, x in enumerate(embeddings):
        for j, w in enumerate(prototypes):
            logits[i, j] = sum(p * q for p, q in zip(x, w, strict=True)) + bias[j]
    return logits


def l2_softmax(embeddings, labels, prototypes, bias, alpha):
    constrained = [[alpha * p / norm(x) for p in x] for x in embeddings]
    return softmax(constrained, labels, prototypes, bias)


def normface(embeddings, labels, prototypes, scale):
    def plain(x, w, _=None):
        return scale * cosine(x, w)

    return _fill(embeddings, labels, prototypes, plain, plain)


def psi(theta, margin):
    k = min(int(margin * theta / math.pi), margin - 1)
    return (-1) ** k * math.cos(margin * theta) - 2 * k


def sphereface(embeddings, labels, prototypes, margin, annealing):
    def own(x, w):
        c = max(-1.0, min(1.0, cosine(x, w)))
        return norm(x) * (annealing * c + psi(math.acos(c), margin)) / (1 + annealing)

    def other(x, w, _):
        return norm(x) * cosine(x, w)

    return _fill(embeddings, labels, prototypes, own, other)


def cosface(embeddings, labels, prototypes, margin, scale):
    def own(x, w):
        return scale * (cosine(x, w) - margin)

    def other(x, w, _):
        return scale * cosine(x, w)

    return _fill(embeddings, labels, prototypes, own, other)


def arc(c, margin, continuation="reflect"):
    theta = math.acos(max(-1.0, min(1.0, c)))
    if continuation == "easy":
        return math.cos(theta + margin) if c > 0 else c
    if theta < math.pi - margin:
        return math.cos(theta + margin)
    if continuation == "linear":
        return c - margin * math.sin(margin)
    return -2 - math.cos(theta + margin)


def arcface(embeddings, labels, prototypes, margin, scale, continuation="reflect"):
    def own(x, w):
        return scale * arc(cosine(x, w), margin, continuation)

    def other(x, w, _):
        return scale * cosine(x, w)

    return _fill(embeddings, labels, prototypes, own, other)


def sv_softmax(embeddings, labels, prototypes, variant, margin, hardness, scale):
    def f(c):
        return {"plain": c, "am": c - margin, "arc": arc(c, margin)}[variant]

    def own(x, w):
        return scale * f(cosine(x, w))

    def other(x, w, own_prototype):
        c = cosine(x, w)
        is_support_vector = f(cosine(x, own_prototype)) - c < 0
        weight = math.exp(scale * (hardness - 1) * (c + 1)) if is_support_vector else 1.0
        return math.log(weight) + scale * c

    return _fill(embeddings, labels, prototypes, own, other)


def cross_entropy(logits, labels):
    losses = []
    for row, label in zip(logits, labels, strict=True):
        largest = max(row)
        losses.append(math.log(sum(math.exp(z - largest) for z in row)) + largest - row[label])
    return np.array(losses)
