"""Trains a share of the prototypes in each step: those of the batch's classes and random others.

Partial FC (An et al. 2022, arXiv:2203.15565): with a million identities, most of a step's time is
spent on classes that it hardly changes. A head with `sample_rate` r has a weight `sample` of
`ceil(r C)` rows, which a step trains in place of `prototypes`. Before the step it receives the
drawn rows, and the optimizer's slots receive theirs; after the step both are written back. Other
rows do not change: neither weight decay nor momentum is applied to them.
"""

import keras
from keras import ops

from keras_facemargin.backend import arrays
from keras_facemargin.backend.replicas import gather
from keras_facemargin.heads.annealing import add_step
from keras_facemargin.heads.draws import restart
from keras_facemargin.heads.margin_head.labels import read_labels

_SEED = 2203_15565


class SampleExchange(keras.layers.Layer):
    """Gathers the rows of a step from the tables and scatters them back, the optimizer's too.

    Args:
        head: a built `MarginHead` with a `sample_rate` below 1.
    """

    def __init__(self, head):
        super().__init__(name="sample_exchange", dtype=head.dtype_policy)
        self.step = add_step(self)
        self.draws = keras.random.SeedGenerator(_SEED)
        pairs = [(head.prototypes, head.sample)]
        if head.bias is not None:
            pairs.append((head.bias, head.sample_bias))
        # Functions hide these weights from Keras, which would track them as weights of this layer.
        self._sample_rows = lambda: head.sample_rows
        self._of_head = lambda: pairs
        self._of_optimizer = lambda: []
        self._tables = {}
        self.built = True

    def follow(self, optimizer):
        """Exchanges from now on also the slots of a built optimizer."""
        slots = []
        for table, part in self._of_head():
            prefix = part.path.replace("/", "_") + "_"
            for slot in optimizer.variables:
                if slot.name.startswith(prefix) and slot.shape == part.shape:
                    name = f"{part.name}_{slot.name.removeprefix(prefix)}"
                    slots.append((self._table(name, table.shape, _first(slot)), slot))
        self._of_optimizer = lambda: slots

    def _table(self, name, shape, start):
        """A weight with a row for each class; that of a previous optimizer is reset."""
        if name in self._tables:
            self._tables[name].assign(ops.full(shape, start))
        else:
            self._tables[name] = self.add_weight(
                name=name,
                shape=shape,
                initializer=keras.initializers.Constant(start),
                trainable=False,
                aggregation="only_first_replica",
            )
        return self._tables[name]

    def gather_rows(self, labels):
        """Draws the rows of a step for the labels (B,) of the global batch, and copies them."""
        sample_rows = self._sample_rows()
        classes = self._of_head()[0][0].shape[0]
        labels = read_labels(labels, classes)
        step = self.step + 1
        self.step.assign(step)
        restart(self.draws, _SEED, step)
        chances = keras.random.uniform((classes,), dtype="float32", seed=self.draws)
        present = ops.maximum(gather(labels), 0)  # an ignored sample adds class 0
        certain = 2.0 + ops.zeros_like(ops.cast(present, "float32"))
        chances = ops.scatter_update(chances, ops.expand_dims(present, -1), certain)
        rows = ops.top_k(chances, sample_rows.shape[0], sorted=False)[1]
        rows = ops.sort(ops.cast(rows, "int32"))
        sample_rows.assign(rows)
        for table, part in (*self._of_head(), *self._of_optimizer()):
            part.assign(arrays.take_rows(table, rows))

    def scatter_rows(self):
        """Copies the rows of the step back."""
        rows = ops.convert_to_tensor(self._sample_rows())
        for table, part in (*self._of_head(), *self._of_optimizer()):
            arrays.store_rows(table, rows, ops.convert_to_tensor(part))


def _first(slot):
    """The initial value of a slot: 0, or Adagrad's accumulator."""
    return float(ops.convert_to_numpy(slot).flat[0])
