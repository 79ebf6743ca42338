"""The pairwise losses again, in plain float64 loops written from their papers.

Each takes labels (B,), embeddings (B, D) and the loss's parameters, and returns its scalar. A
`metric` is a function of two embeddings.
"""

import math


def squared(a, b):
    return sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True))


def euclidean(a, b):
    return math.sqrt(squared(a, b))


def angular(a, b):
    return 1.0 - dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def manhattan(a, b):
    return sum(abs(float(p) - float(q)) for p, q in zip(a, b, strict=True))


def dot(a, b):
    return sum(float(p) * float(q) for p, q in zip(a, b, strict=True))


def others(labels, i):
    """Positives and negatives of sample i."""
    everyone = [j for j in range(len(labels)) if j != i]
    positives = [j for j in everyone if labels[j] == labels[i]]
    return positives, [j for j in everyone if labels[j] != labels[i]]


def semi_hard(labels, x, margin, metric):
    losses = []
    for i in range(len(x)):
        positives, negatives = others(labels, i)
        for j in positives:
            near = metric(x[i], x[j])
            far = [metric(x[i], x[k]) for k in negatives]
            farthest = max(far, default=0.0)
            negative = min((d for d in far if d > near), default=farthest)
            losses.append(max(0.0, near + margin - negative))
    return sum(losses) / len(losses) if losses else 0.0


def hard(labels, x, margin, metric, soft=False):
    losses = []
    for i in range(len(x)):
        positives, negatives = others(labels, i)
        near = max((metric(x[i], x[j]) for j in positives), default=0.0)
        far = min((metric(x[i], x[k]) for k in negatives), default=near)
        losses.append(
            math.log(1.0 + math.exp(near - far)) if soft else max(0.0, near - far + margin)
        )
    return sum(losses) / len(losses)


def contrastive(labels, x, margin):
    losses = []
    for i in range(len(x)):
        for j in range(i):
            distance = euclidean(x[i], x[j])
            if labels[i] == labels[j]:
                losses.append(distance**2)
            else:
                losses.append(max(0.0, margin - distance) ** 2)
    return sum(losses) / len(losses) if losses else 0.0


def lifted(labels, x, margin):
    total, pairs = 0.0, 0
    for i in range(len(x)):
        positives, negatives = others(labels, i)
        for j in positives:
            if j < i:
                continue
            pairs += 1
            terms = [math.exp(margin - euclidean(x[i], x[k])) for k in negatives]
            terms += [math.exp(margin - euclidean(x[j], x[k])) for k in negatives]
            if terms:
                total += max(0.0, math.log(sum(terms)) + euclidean(x[i], x[j])) ** 2
    return total / (2 * pairs) if pairs else 0.0


def paired(labels):
    """(anchor, partner) of the first and second of a label, the third and fourth, ..."""
    pairs, waiting = [], {}
    for i, label in enumerate(labels):
        if label in waiting:
            pairs.append((waiting.pop(label), i))
        else:
            waiting[label] = i
    return pairs


def npairs(labels, x):
    pairs = paired(labels)
    total = 0.0
    for anchor, _ in pairs:
        scores = [dot(x[anchor], x[partner]) for _, partner in pairs]
        largest = max(scores)
        normaliser = largest + math.log(sum(math.exp(s - largest) for s in scores))
        own = [
            normaliser - score
            for score, (_, partner) in zip(scores, pairs, strict=True)
            if labels[partner] == labels[anchor]
        ]
        total += sum(own) / len(own)
    return total / len(pairs) if pairs else 0.0


def moved_centres(labels, x, centres, alpha):
    """Centres after one step, and the centre loss of each sample by those before it."""
    losses = [0.5 * squared(a, centres[label]) for a, label in zip(x, labels, strict=True)]
    moved = []
    for j, centre in enumerate(centres):
        own = [a for a, label in zip(x, labels, strict=True) if label == j]
        delta = [sum(c - a[d] for a in own) / (1 + len(own)) for d, c in enumerate(centre)]
        moved.append([c - alpha * step for c, step in zip(centre, delta, strict=True)])
    return losses, moved
