"""What the wrong classes cost, block by block: a million prototypes without their logits.

The cost of a sample is made of its own logit and of one number for all others, such as the log of
the sum of their exponentials. That number is reduced over blocks of `WIDTH` classes, and so is its
gradient: in the backward pass a block's logits are formed once more, differentiated by the backend
itself whatever the head's hooks are, and the gradient of its prototypes is written to its place.
Beside the prototypes and their gradient nothing larger than a block is alive, but for the products
of embeddings and prototypes where they are kept: they are B x C numbers, and keeping them saves one
of four matrix products.

Milakov & Gimelshein, "Online normalizer calculation for softmax" (arXiv:1805.02867), is where the
running maximum comes from.
"""

import keras
from keras import ops

from keras_facemargin.heads import in_place
from keras_facemargin.heads.reductions import NEVER

# Classes a block. The rows of a block and what is made of them stay in a processor's cache; wider
# is no faster (measured from 512 to 8192 by 512 dimensions), narrower pays for each turn.
WIDTH = 2048


def every_pair(features, prototypes):
    return ops.matmul(features, ops.transpose(prototypes))


def own_pair(features, prototypes):
    return ops.sum(features * prototypes, axis=-1)


def squared_lengths(rows):
    """Sum of squares of each row (K, ..., D) -> (K, ...), with a gradient of one pass.

    Differentiated by TensorFlow it would be four, of arrays as large as the rows.
    """

    def run(rows):
        def pullback(cotangents):
            return (ops.expand_dims(2.0 * cotangents[0], -1) * rows,)

        return (ops.sum(ops.square(rows), axis=-1),), pullback

    return in_place.with_gradient(run, rows)[0]


def with_own_rows(weight, rows):
    """A weight (C, ...), and its rows (B, ...): as `ops.take`, with one gradient for both uses.

    Differentiated apart, the rows' gradient would be made as large as the weight before it is added
    to the other (TensorFlow copies the dense one into `IndexedSlices` instead). Here it is added in
    place to the one that comes back for the whole weight, so that must be used, too.
    """

    def run(weight):
        def pullback(cotangents):
            by_weight, by_rows = cotangents
            return (in_place.add(by_weight, by_rows, rows),)

        return (weight, ops.take(weight, rows, axis=0)), pullback

    return in_place.with_gradient(run, weight)


def reduce_others(score, reduction, labels, inputs, weights, num_classes, keep=False):
    """One number a sample for all classes but its own, differentiable without their logits.

    Args:
        score: `score(inputs, rows, product)` -> logits and plain similarities, (B, K) each, of the
            K classes whose `weights` have these rows.
        reduction: one of `heads.reductions`.
        labels: (B,) int32, or -1 where every class is another.
        inputs: float tensors that are differentiated; the first has B rows.
        weights: tensors of C rows that are differentiated: prototypes, maybe a bias.
        num_classes: rows from here on are padding and count for nothing; None where none is.
        keep: whether the products stay in memory for the backward pass.

    Returns:
        The reduced logits (B, 1), and the largest similarity of another class (B, 1), which is not
        differentiated.
    """
    classes = weights[0].shape[0]
    width = min(WIDTH, classes)
    full = classes // width
    rest = classes - full * width
    products = weights[0].shape[1] if len(weights[0].shape) == 3 else 1
    many = len(inputs)
    dtype = keras.backend.standardize_dtype(weights[0].dtype)
    zero, never = (ops.cast(value, dtype) for value in (0.0, NEVER))

    def rows_of(weights, start, size):
        return tuple(
            ops.slice(w, (start, *[0] * (len(w.shape) - 1)), (size, *w.shape[1:])) for w in weights
        )

    def absence(start, size):
        """0 where a class of the block is another than the sample's own, else `NEVER`."""
        block = ops.arange(size, dtype="int32") + start
        other = ops.not_equal(block, ops.expand_dims(labels, -1))
        if num_classes is not None:
            other = ops.logical_and(other, block < num_classes)
        return ops.where(other, zero, never)

    def forward(inputs, weights):
        def block(start, size, best, *carry):
            made = []

            def product(features, prototypes):
                made.append(every_pair(features, prototypes))
                return made[-1]

            logits, similarities = score(inputs, rows_of(weights, start, size), product)
            absent = absence(start, size)
            largest = ops.max(similarities + absent, axis=-1, keepdims=True, initial=NEVER)
            return (ops.maximum(best, largest), *reduction.add(logits + absent, *carry)), made

        def turn(i, kept, *carry):
            carry, made = block(i * width, width, *carry)
            return (in_place.put(kept, ops.stack(made)[None], i) if keep else kept, *carry)

        like = ops.cast(ops.zeros_like(ops.expand_dims(labels, -1)), dtype)
        shape = (full, products, ops.shape(labels)[0], width) if keep else (1,)
        kept = in_place.empty(shape, dtype)
        carry = (ops.full_like(like, NEVER), *reduction.start(like))
        kept, *carry = in_place.loop(full, turn, (kept, *carry))
        kept_rest = ()
        if rest:
            carry, kept_rest = block(full * width, rest, *carry)
        best, *carry = carry
        return reduction.result(*carry), best, kept, kept_rest

    def run(*leaves):
        inputs, weights = leaves[:many], leaves[many:]
        result, best, kept, kept_rest = forward(inputs, weights)

        def pullback(cotangents):
            upstream = cotangents[0]

            def block(start, size, made):
                def masked_logits(*leaves):
                    product = _already(made) if keep else every_pair
                    logits, _ = score(leaves[:many], leaves[many:], product)
                    return (logits + absence(start, size),)

                rows = rows_of(weights, start, size)
                (logits,), pull = in_place.vjp(masked_logits, *inputs, *rows)
                gradients = pull((upstream * reduction.slopes(logits, result),))
                gradients = [
                    ops.zeros_like(leaf) if gradient is None else gradient
                    for leaf, gradient in zip((*inputs, *rows), gradients, strict=True)
                ]
                return gradients[:many], gradients[many:]

            def turn(start, size, made, *carry):
                by_inputs, by_rows = block(start, size, made)
                sums = (a + b for a, b in zip(carry[:many], by_inputs, strict=True))
                filled = (
                    in_place.put(array, rows, start)
                    for array, rows in zip(carry[many:], by_rows, strict=True)
                )
                return (*sums, *filled)

            def numbered_turn(i, *carry):
                return turn(
                    i * width, width, ops.unstack(kept[i], products) if keep else (), *carry
                )

            carry = (
                *(ops.zeros_like(each) for each in inputs),
                *(in_place.empty(tuple(w.shape), dtype) for w in weights),
            )
            carry = in_place.loop(full, numbered_turn, carry)
            return turn(full * width, rest, kept_rest, *carry) if rest else carry

        return (result, best), pullback

    return in_place.with_gradient(run, *inputs, *weights)


def _already(made):
    """A product that has been formed before, with the gradient of forming it."""
    made = iter(made)

    def product(features, prototypes):
        value = next(made)

        def run(features, prototypes):
            def pullback(cotangents):
                (upstream,) = cotangents
                return ops.matmul(upstream, prototypes), ops.matmul(
                    ops.transpose(upstream), features
                )

            return (value,), pullback

        return in_place.with_gradient(run, features, prototypes)[0]

    return product
