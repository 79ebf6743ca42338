"""Reductions of the wrong classes' logits to one number, block by block, and their slopes.

| method | returns |
| --- | --- |
| `start(like)` | the state before the first block, for samples (B, 1) |
| `add(logits, *state)` | the state after a block (B, K) |
| `result(*state)` | the number (B, 1) |
| `join(results)` | the number from those of n parts of the classes (n, B, 1) |
| `slopes(logits, result)` | the derivative of the result by each logit of a block (B, K) |

A class that does not count has the logit `NEVER`.
"""

from keras import ops

NEVER = -1e30  # its exponential is 0, and no result is infinite


class LogSumExp:
    """log sum_j exp(z_j), with a running maximum: the others in a softmax."""

    def start(self, like):
        return ops.full_like(like, NEVER), ops.zeros_like(like)

    def add(self, logits, largest, total):
        larger = ops.maximum(largest, ops.max(logits, axis=-1, keepdims=True, initial=NEVER))
        block = ops.sum(ops.exp(logits - larger), axis=-1, keepdims=True)
        return larger, total * ops.exp(largest - larger) + block

    def result(self, largest, total):
        return largest + ops.log(total)

    def join(self, results):
        return ops.logsumexp(results, axis=0)

    def slopes(self, logits, result):
        return ops.exp(logits - result)


class SoftplusSum:
    """sum_j log(1 + exp(z_j)): a binary decision for each other class."""

    def start(self, like):
        return (ops.zeros_like(like),)

    def add(self, logits, total):
        return (total + ops.sum(ops.softplus(logits), axis=-1, keepdims=True),)

    def result(self, total):
        return total

    def join(self, results):
        return ops.sum(results, axis=0)

    def slopes(self, logits, result):
        return ops.sigmoid(logits)
