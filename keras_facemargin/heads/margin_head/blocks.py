"""The loss over blocks of classes: a million prototypes without their logits in memory.

The loss of a sample depends on its target logit and on one number for all other classes, such as
the log of the sum of their exponentials. `OtherClasses` reduces that number over blocks of `WIDTH`
classes, and its gradient too: the backward pass computes the logits of a block once more, lets the
backend differentiate them, whatever the head's hooks are, and writes the gradient of the block's
prototypes into one array. Apart from the prototypes and their gradient, no array in memory is
larger than a block, except the products of embeddings and prototypes if they are kept: they are
B x C numbers and save one of four matrix products.

The running maximum is from Milakov & Gimelshein, "Online normalizer calculation for softmax"
(arXiv:1805.02867).
"""

import itertools
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_facemargin.backend import arrays
from keras_facemargin.heads.margin_head.reductions import NEVER

# Classes per block. The rows of a block and their products fit into a processor's cache; wider is
# no faster (measured from 512 to 8192 by 512 dimensions), narrower costs more turns of the loop.
WIDTH = 1536


def every_pair(features, prototypes, lengths=True):
    """Inner products of features (B, D) and prototypes (K, D), and the latter's squared lengths.

    Returns:
        (B, K), and (K,) or, without `lengths`, None.
    """
    products = ops.matmul(features, ops.transpose(prototypes))
    return products, ops.sum(ops.square(prototypes), axis=-1) if lengths else None


def target_pair(features, prototypes, lengths=True):
    """As `every_pair`, for each of B features and the one prototype of its class: (B,) and (B,)."""
    products = ops.sum(features * prototypes, axis=-1)
    return products, ops.sum(ops.square(prototypes), axis=-1) if lengths else None


def with_target_rows(weight, indices):
    """A weight (C, ...), and its rows (B, ...): as `ops.take`, with one gradient for both uses.

    Without this, automatic differentiation makes the gradient of the rows as large as the weight
    before it adds both (TensorFlow copies the dense one into `IndexedSlices` instead). Here the
    gradient of the rows is added in place to that of the whole weight, so the caller must use both.
    """

    def run(weight):
        def pullback(cotangents):
            by_weight, by_rows = cotangents
            return (arrays.add_rows(by_weight, by_rows, indices),)

        return (weight, ops.take(weight, indices, axis=0)), pullback

    return arrays.with_gradient(run, weight)


class Kept(NamedTuple):
    """Values of the forward pass that the backward pass uses again, one for each sub-centre."""

    products: Any  # (centers, B, K), or of all full blocks (blocks, centers, B, K)
    squares: Any  # lengths of the prototypes: (centers, K), or (blocks, centers, K)


class Reduced(NamedTuple):
    """The reduction of the classes seen so far."""

    best: Any  # (B, 1), the largest similarity of another class
    state: tuple  # of the `reduction`


class Gradients(NamedTuple):
    """The gradients so far: sums for the inputs, filled rows for the weights."""

    inputs: tuple
    weights: tuple


class OtherClasses:
    """Reduces the logits of all classes but the target to one number a sample, block by block.

    Args:
        score: `score(inputs, rows, pair)` -> logits and plain similarities, (B, K) each, of K
            classes, whose rows of the weights are `rows`.
        reduction: an object of `reductions`.
        labels: (B,) int32, or -1 if every class is another one.
        num_classes: rows from this number on are padding and do not count; None without padding.
        keep: whether the products stay in memory for the backward pass.
    """

    def __init__(self, score, reduction, labels, num_classes=None, keep=False):
        self.score = score
        self.reduction = reduction
        self.labels = labels
        self.num_classes = num_classes
        self.keep = keep

    def reduce(self, inputs, weights):
        """Reduces the logits, with a gradient that never forms all of them.

        Args:
            inputs: float tensors to differentiate; the first has B rows.
            weights: tensors of C rows to differentiate: prototypes, and a bias if there is one.

        Returns:
            The reduced logits (B, 1), and the largest similarity of another class (B, 1), which has
            no gradient.
        """
        count = len(inputs)

        def run(*leaves):
            inputs, weights = leaves[:count], leaves[count:]
            result, best, kept, kept_rest = self.forward(inputs, weights)

            def pullback(cotangents):
                gradients = self.backward(
                    inputs, weights, result, kept, kept_rest, upstream=cotangents[0]
                )
                return (*gradients.inputs, *gradients.weights)

            return (result, best), pullback

        return arrays.with_gradient(run, *inputs, *weights)

    def forward(self, inputs, weights):
        """The result, the best similarity, and what is kept of full blocks and of the rest."""
        full, rest, width = _cut(weights)

        def turn(i, kept, reduced):
            reduced, pairs = self._add_block(inputs, weights, i * width, width, reduced)
            return self._store(kept, pairs, i), reduced

        like = ops.cast(ops.zeros_like(ops.expand_dims(self.labels, -1)), _dtype(weights))
        reduced = Reduced(ops.full_like(like, NEVER), self.reduction.start(like))
        kept, reduced = arrays.loop(full, turn, (self._empty(weights), reduced))
        kept_rest = None
        if rest:
            reduced, kept_rest = self._add_block(inputs, weights, full * width, rest, reduced)
        return self.reduction.result(*reduced.state), reduced.best, kept, kept_rest

    def backward(self, inputs, weights, result, kept, kept_rest, upstream):
        """`Gradients` of the inputs and weights, for the gradient `upstream` (B, 1) of the result.

        The other arguments are those and the results of `forward`.
        """
        full, rest, width = _cut(weights)

        def turn(i, gradients):
            block = Kept(kept.products[i], kept.squares[i])
            return (add(gradients, i * width, width, block),)

        def add(gradients, start, size, kept):
            rows = _rows_of(weights, start, size)

            def logits_of(*leaves):
                pair = self._pair_again(kept)
                return (self.score(leaves[: len(inputs)], leaves[len(inputs) :], pair)[0],)

            (logits,), pullback = arrays.vjp(logits_of, *inputs, *rows)
            slopes = self._others_only(self.reduction.slopes(logits, result), start, 0.0)
            leaves = (*inputs, *rows)
            found = [
                ops.zeros_like(leaf) if gradient is None else gradient
                for leaf, gradient in zip(leaves, pullback((upstream * slopes,)), strict=True)
            ]
            by_inputs, by_rows = found[: len(inputs)], found[len(inputs) :]
            return Gradients(
                tuple(a + b for a, b in zip(gradients.inputs, by_inputs, strict=True)),
                tuple(
                    arrays.update_rows(array, rows, start)
                    for array, rows in zip(gradients.weights, by_rows, strict=True)
                ),
            )

        gradients = Gradients(
            tuple(ops.zeros_like(each) for each in inputs),
            tuple(arrays.empty(tuple(w.shape), _dtype(weights)) for w in weights),
        )
        (gradients,) = arrays.loop(full, turn, (gradients,))
        return add(gradients, full * width, rest, kept_rest) if rest else gradients

    def _add_block(self, inputs, weights, start, size, reduced):
        """`Reduced` with one block more, and the block's products and squared lengths."""
        pairs = []

        def pair(features, prototypes, lengths=True):
            pairs.append(_pair(features, prototypes, lengths))
            return pairs[-1]

        logits, similarities = self.score(inputs, _rows_of(weights, start, size), pair)
        similarities = self._others_only(similarities, start, NEVER)
        largest = ops.max(similarities, axis=-1, keepdims=True, initial=NEVER)
        state = self.reduction.add(self._others_only(logits, start, NEVER), *reduced.state)
        products, squares = zip(*pairs, strict=True)
        kept = Kept(products if self.keep else None, squares)
        return Reduced(ops.maximum(reduced.best, largest), tuple(state)), kept

    def _others_only(self, values, start, fill):
        """The values of a block (B, K), with `fill` at the target class and at padding."""
        values = arrays.fill_target(values, self.labels - start, fill)
        if self.num_classes is not None:
            block = ops.arange(values.shape[1], dtype="int32") + start
            values = ops.where(block < self.num_classes, values, fill)
        return values

    def _empty(self, weights):
        """`Kept` of all full blocks, to fill; no rows for products that are not kept."""
        full, _, width = _cut(weights)
        centers = weights[0].shape[1] if len(weights[0].shape) == 3 else 1
        samples = ops.shape(self.labels)[0] if self.keep else 0
        dtype = _dtype(weights)
        return Kept(
            arrays.empty((full, centers, samples, width), dtype),
            arrays.empty((full, centers, width), dtype),
        )

    def _store(self, kept, block, i):
        """`Kept` of all full blocks after block i."""
        products, squares = kept
        if self.keep:
            products = arrays.update_rows(products, ops.stack(block.products)[None], i)
        if block.squares[0] is not None:
            squares = arrays.update_rows(squares, ops.stack(block.squares)[None], i)
        return Kept(products, squares)

    def _pair_again(self, kept):
        """A `pair` that takes the values of the forward pass, in the order of its calls there."""
        centers = itertools.count()

        def pair(features, prototypes, lengths=True):
            k = next(centers)
            products = kept.products[k] if self.keep else None
            squares = kept.squares[k] if lengths else None
            return _pair(features, prototypes, lengths, products, squares)

        return pair


def _cut(weights):
    """Number of full blocks, classes in the last, smaller block, and classes in a full block."""
    classes = weights[0].shape[0]
    width = min(WIDTH, classes)
    return classes // width, classes % width, width


def _rows_of(weights, start, size):
    return tuple(
        ops.slice(w, (start, *[0] * (len(w.shape) - 1)), (size, *w.shape[1:])) for w in weights
    )


def _dtype(weights):
    return keras.backend.standardize_dtype(weights[0].dtype)


def _pair(features, prototypes, lengths, products=None, squares=None):
    """As `every_pair`, of given values if there are any, with a gradient written by hand.

    Prototypes are rows, so the transpose of the products is faster to compute than the products;
    automatic differentiation would compute the transpose of the prototypes' gradient.
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
