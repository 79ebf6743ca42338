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

from keras_facemargin.backend import arrays
from keras_facemargin.heads.margin_head.reductions import NEVER

# Classes a block. The rows of a block and what is made of them stay in a processor's cache; wider
# is no faster (measured from 512 to 8192 by 512 dimensions), narrower pays for each turn.
WIDTH = 1536


def every_pair(features, prototypes, lengths=True):
    """Inner products of features (B, D) and prototypes (K, D), and the latter's squared lengths.

    Returns:
        (B, K), and (K,) or, without `lengths`, None.
    """
    products = ops.matmul(features, ops.transpose(prototypes))
    return products, ops.sum(ops.square(prototypes), axis=-1) if lengths else None


def target_pair(features, prototypes, lengths=True):
    """As `every_pair`, of each of B features and the prototype in its place: (B,) and (B,)."""
    products = ops.sum(features * prototypes, axis=-1)
    return products, ops.sum(ops.square(prototypes), axis=-1) if lengths else None


def with_target_rows(weight, rows):
    """A weight (C, ...), and its rows (B, ...): as `ops.take`, with one gradient for both uses.

    Differentiated apart, the rows' gradient would be made as large as the weight before it is added
    to the other (TensorFlow copies the dense one into `IndexedSlices` instead). Here it is added in
    place to the one that comes back for the whole weight, so that must be used, too.
    """

    def run(weight):
        def pullback(cotangents):
            by_weight, by_rows = cotangents
            return (arrays.add_rows(by_weight, by_rows, rows),)

        return (weight, ops.take(weight, rows, axis=0)), pullback

    return arrays.with_gradient(run, weight)


def reduce_others(score, reduction, labels, inputs, weights, num_classes, keep=False):
    """One number a sample for all classes but its own, differentiable without their logits.

    Args:
        score: `score(inputs, rows, pair)` -> logits and plain similarities, (B, K) each, of the K
            classes whose `weights` have these rows.
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
    centers = weights[0].shape[1] if len(weights[0].shape) == 3 else 1
    many = len(inputs)
    dtype = keras.backend.standardize_dtype(weights[0].dtype)

    def rows_of(weights, start, size):
        return tuple(
            ops.slice(w, (start, *[0] * (len(w.shape) - 1)), (size, *w.shape[1:])) for w in weights
        )

    def of_others(values, start, fill):
        """The values of a block (B, K), with another where the class is the sample's own."""
        values = arrays.fill_target(values, labels - start, fill)
        if num_classes is not None:
            block = ops.arange(values.shape[1], dtype="int32") + start
            values = ops.where(block < num_classes, values, fill)
        return values

    def forward(inputs, weights):
        def block(start, size, best, *carry):
            made = []

            def pair(features, prototypes, lengths=True):
                made.append(_pair(features, prototypes, lengths))
                return made[-1]

            logits, similarities = score(inputs, rows_of(weights, start, size), pair)
            similarities = of_others(similarities, start, NEVER)
            largest = ops.max(similarities, axis=-1, keepdims=True, initial=NEVER)
            carry = reduction.add(of_others(logits, start, NEVER), *carry)
            products, squares = zip(*made, strict=True)
            return (ops.maximum(best, largest), *carry), (products if keep else None, squares)

        def turn(i, products, squares, *carry):
            carry, made = block(i * width, width, *carry)
            if keep:
                products = arrays.update_rows(products, ops.stack(made[0])[None], i)
            if made[1][0] is not None:
                squares = arrays.update_rows(squares, ops.stack(made[1])[None], i)
            return (products, squares, *carry)

        like = ops.cast(ops.zeros_like(ops.expand_dims(labels, -1)), dtype)
        samples = ops.shape(labels)[0] if keep else 0
        products = arrays.empty((full, centers, samples, width), dtype)
        squares = arrays.empty((full, centers, width), dtype)
        carry = (products, squares, ops.full_like(like, NEVER), *reduction.start(like))
        products, squares, best, *carry = arrays.loop(full, turn, carry)
        kept_rest = None
        if rest:
            (best, *carry), kept_rest = block(full * width, rest, best, *carry)
        return reduction.result(*carry), best, (products, squares), kept_rest

    def run(*leaves):
        inputs, weights = leaves[:many], leaves[many:]
        result, best, kept, kept_rest = forward(inputs, weights)

        def pullback(cotangents):
            upstream = cotangents[0]

            def turn(start, size, products, squares, *carry):
                made = iter(range(centers))

                def logits_of(*leaves):
                    def pair(features, prototypes, lengths=True):
                        k = next(made)
                        return _pair(
                            features,
                            prototypes,
                            lengths,
                            products[k] if keep else None,
                            squares[k] if lengths else None,
                        )

                    return (score(leaves[:many], leaves[many:], pair)[0],)

                rows = rows_of(weights, start, size)
                (logits,), pull = arrays.vjp(logits_of, *inputs, *rows)
                slopes = of_others(reduction.slopes(logits, result), start, 0.0)
                gradients = pull((upstream * slopes,))
                gradients = [
                    ops.zeros_like(leaf) if gradient is None else gradient
                    for leaf, gradient in zip((*inputs, *rows), gradients, strict=True)
                ]
                sums = (a + b for a, b in zip(carry[:many], gradients[:many], strict=True))
                filled = (
                    arrays.update_rows(array, rows, start)
                    for array, rows in zip(carry[many:], gradients[many:], strict=True)
                )
                return (*sums, *filled)

            def numbered_turn(i, *carry):
                return turn(i * width, width, *(each[i] for each in kept), *carry)

            carry = (
                *(ops.zeros_like(each) for each in inputs),
                *(arrays.empty(tuple(w.shape), dtype) for w in weights),
            )
            carry = arrays.loop(full, numbered_turn, carry)
            return turn(full * width, rest, *kept_rest, *carry) if rest else carry

        return (result, best), pullback

    return arrays.with_gradient(run, *inputs, *weights)


def _pair(features, prototypes, lengths, products=None, squares=None):
    """`every_pair`, or what it was before, with a gradient that passes the prototypes' rows once.

    The transpose of the products is quicker to form than they are, prototypes being rows; and a
    backend left to itself forms the transpose of the prototypes' gradient.
    """

    def run(features, prototypes):
        def pullback(cotangents):
            by_products, *by_squares = cotangents
            by_prototypes = ops.matmul(ops.transpose(by_products), features)
            if lengths:
                by_prototypes += ops.expand_dims(2.0 * by_squares[0], -1) * prototypes
            return ops.matmul(by_products, prototypes), by_prototypes

        outputs = [products, squares]
        if products is None:
            outputs[0] = ops.transpose(ops.matmul(prototypes, ops.transpose(features)))
        if squares is None and lengths:
            outputs[1] = ops.sum(ops.square(prototypes), axis=-1)
        return tuple(outputs[: 1 + lengths]), pullback

    pair = arrays.with_gradient(run, features, prototypes)
    return pair if lengths else (pair[0], None)
