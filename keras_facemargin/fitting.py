"""Corrections of Keras' `fit` for several replicas and for resumed runs.

The faults of Keras 3.15 on TensorFlow, and the correction of each:

- Under a strategy Keras builds the model with a first batch and averages this batch over replicas.
  A first batch that does not divide by the replicas fails, several workers fail with any batch
  (keras#20585), and a pipeline that counts its passes is one ahead. Here the model is built before
  `fit`, which takes no extra batch.
- With several workers Keras averages a step's logs over an axis that numbers do not have, and
  fails. Here the numbers of a step have that axis.
- Keras weighs the loss of a batch by all its samples, including those labelled -1, and logs the
  mean of the replicas' averages. With unequal shares both differ from the value of one device. Here
  the loss is a sum over labelled samples and their count (`LossMean`), and logs come from sums
  over all replicas.
- Keras returns 0 as the mean over no sample, a perfect `val_loss`. Here an epoch or an evaluation
  without a labelled sample gives NaN, which no callback takes for the best.
- `steps_per_execution` above 1 (keras#19246) and `jit_compile=True` fail in the first step with
  several replicas. Here `compile` refuses them.
- `gradient_accumulation_steps` and `ema_overwrite_frequency` fail in the first step under any
  strategy (keras#20582). Here `compile` refuses them.
- Clipping (`clipnorm`, `global_clipnorm`, `clipvalue`) acts on a replica's share of the gradient,
  before the sum over replicas (tensorflow#33929). Here it acts on the sum.
- `LossScaleOptimizer` checks on one replica whether all gradients are finite. Here it checks on
  all.
- A batch that leaves a replica without images fails on CPUs in oneDNN's gradient of a convolution,
  and TensorFlow's error names a collective. Here the step refuses it with a clear error.

Keras also lacks an epoch that starts at a later step; `start_at` adds it.

The methods with an underscore override Keras' own; `tests/test_fitting.py` fails if a newer Keras
does not call them.
"""

import functools
import math
import os

import keras
from keras import ops

from keras_facemargin.backend.replicas import replica_count, total
from keras_facemargin.backend.trainer import restore_values


class LossMean(keras.metrics.Mean):
    """The mean of a loss over samples, from their sum and their number."""

    def add(self, loss, count):
        """Adds samples.

        Args:
            loss: scalar, the sum of their losses.
            count: scalar, their number.
        """
        self.total.assign_add(ops.cast(loss, self.dtype))
        self.count.assign_add(ops.cast(count, self.dtype))

    def update_state(self, values, sample_weight=None):
        return  # Keras passes the mean of a batch, weighed by all its samples


class DistributedFit:
    """Corrects `fit`; a base class before `keras.Model`, for a model that its constructor builds.

    The model has `embedder`, from whose shapes compiled metrics are built, and `inspector`, an
    `Inspector`. Its `compute_loss` adds to `mean_loss`.
    """

    _epochs = None  # Keras' iterator of the running `fit`
    _taken = tuple  # on jax: returns the variables of the running epoch and their first values

    def compile(self, optimizer="rmsprop", *, jit_compile="auto", steps_per_execution=1, **kwargs):
        replicas = self.replicas
        for name, value, refused in (
            ("jit_compile", jit_compile, jit_compile is True),
            ("steps_per_execution", steps_per_execution, steps_per_execution != 1),
        ):
            if replicas > 1 and refused:
                raise ValueError(
                    f"With several replicas Keras cannot train with {name}={value!r}: TensorFlow "
                    "fails in the first step. "
                    f"Received: {name}={value!r} for {replicas} replicas. Leave it out."
                )
        optimizer = keras.optimizers.get(optimizer)
        if getattr(self, "_distribute_strategy", None) is not None:
            _refuse_conditions(optimizer)
        super().compile(
            optimizer=optimizer,
            jit_compile=jit_compile,
            steps_per_execution=steps_per_execution,
            **kwargs,
        )
        # Not tracked, like Keras' own tracker, which is the first metric.
        object.__setattr__(self, "_loss_tracker", LossMean(name="loss"))
        if replicas > 1:
            _sum_before_clipping(self.optimizer)

    @property
    def replicas(self):
        """Number of replicas: 1 without a strategy of `tf.distribute`."""
        strategy = getattr(self, "distribute_strategy", None)  # only on TensorFlow
        return 1 if strategy is None else strategy.num_replicas_in_sync

    @property
    def mean_loss(self):
        """The `LossMean` of the running epoch."""
        return self._loss_tracker

    def train_step(self, *arguments):
        if replica_count() > 1 and any(
            isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
            for layer in self.embedder._flatten_layers()
        ):
            (batch,) = arguments
            arguments = (_refuse_none(batch),)
        return super().train_step(*arguments)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        if replica_count() == 1:
            return logs
        sums = iter(total([variable for m in self.metrics for variable in m.variables]))
        logs = {}
        for metric in self.metrics:
            result = metric.stateless_result([next(sums) for _ in metric.variables])
            logs.update(result if isinstance(result, dict) else {metric.name: result})
        if worker_of(self.distribute_strategy)[1] > 1:
            logs = {name: ops.reshape(value, (1,)) for name, value in logs.items()}
        return logs

    def _get_metrics_result_or_logs(self, logs):
        self._taken = tuple
        logs = super()._get_metrics_result_or_logs(logs)
        if ops.convert_to_numpy(self.mean_loss.count) == 0:
            logs = {**logs, **dict.fromkeys(("loss", "accuracy"), math.nan)}
        return logs

    def _get_jax_state(self, **kwargs):
        state = super()._get_jax_state(**kwargs)
        # A classifier that is not compiled predicts, and has no optimizer.
        groups = {
            "trainable_variables": lambda: self.trainable_variables,
            "non_trainable_variables": lambda: self.non_trainable_variables,
            "optimizer_variables": lambda: self.optimizer.variables,
            "metrics_variables": lambda: self.metrics_variables,
        }
        requested = [variables() for name, variables in groups.items() if kwargs.get(name)]
        pairs = [
            pair for each in zip(requested, state, strict=True) for pair in zip(*each, strict=True)
        ]
        self._taken = lambda: pairs  # behind a function, or Keras would track a list of variables
        return state

    def restore_variables(self):
        """Restores the values of the variables after a refused batch.

        Keras on jax removes the values before it reads a batch.
        """
        restore_values(self, self._taken)

    def _symbolic_build(self, iterator=None, data_batch=None):
        self._epochs = iterator
        if iterator is not None and not hasattr(iterator.data_adapter, "_inputs"):  # not arrays
            self.inspector.watch(iterator, getattr(self, "distribute_strategy", None))
        if self._compile_metrics is not None and not self._compile_metrics.built:
            shapes = self.embedder.input_shape, (None,)
            images, labels = map(keras.KerasTensor, shapes, ("float32", "int32"))
            super()._symbolic_build(data_batch=(images, labels))
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):  # TensorFlow's name for it
        if iterator is not None and worker_of(self.distribute_strategy)[1] > 1:
            _refuse_share(iterator.data_adapter.get_tf_dataset())
        with self.distribute_strategy.scope():
            self._symbolic_build(iterator, data_batch)

    def start_at(self, epoch, step, steps):
        """Makes `fit` start at a step of an epoch. Callbacks call it when training starts.

        The data of `fit` must start at the same step.

        Args:
            epoch, step: counted from 0.
            steps: number of steps of a whole epoch; needed if `step` is not 0.
        """
        self._initial_epoch = epoch  # as `keras.callbacks.BackupAndRestore` does
        if step == 0:
            return
        epochs, stride = self._epochs, self._epochs.steps_per_execution

        def rest_of_epoch():
            del epochs._enumerate_iterator  # the next epoch is complete
            epochs._num_batches = steps  # Keras counts the short first pass
            epochs.data_adapter.on_epoch_begin()
            batches = iter(epochs._get_iterator())
            for first in range(step, steps, stride):
                yield first, first + stride - 1, batches
            iter(epochs._get_iterator())  # as Keras does: on torch it draws a random number
            epochs.data_adapter.on_epoch_end()

        epochs._enumerate_iterator = rest_of_epoch

    @property
    def data(self):
        """The data of the running `fit`: a stream of batches, or a tuple of arrays."""
        adapter = self._epochs.data_adapter
        for name in ("_dataset", "py_dataset", "_dataloader", "_inputs"):
            if hasattr(adapter, name):
                return getattr(adapter, name)
        return None


def optimizer_parts(optimizer):
    """An optimizer and its inner optimizers; the innermost have the settings.

    Args:
        optimizer: a Keras optimizer; `LossScaleOptimizer` and `MultiOptimizer` contain others.

    Returns:
        list of optimizers, the outermost first.
    """
    inside = [*getattr(optimizer, "optimizers", ())]
    if hasattr(optimizer, "inner_optimizer"):
        inside.append(optimizer.inner_optimizer)
    return [optimizer, *(part for each in inside for part in optimizer_parts(each))]


def _refuse_conditions(optimizer):
    """Refuses settings that act in some steps only, which TensorFlow cannot do in a replica."""
    for part in optimizer_parts(optimizer):
        for name, way_out in (
            ("gradient_accumulation_steps", "Leave it out, and raise `batch_size`"),
            ("ema_overwrite_frequency", "Leave it out: the averages are taken at the end of `fit`"),
        ):
            value = getattr(part, name, None)
            if value and (name != "ema_overwrite_frequency" or part.use_ema):
                raise ValueError(
                    f"Under a strategy of tf.distribute Keras cannot train with {name}={value!r}: "
                    "TensorFlow fails in the first step. "
                    f"Received: {type(part).__name__}({name}={value!r}). {way_out}."
                )


def _sum_before_clipping(optimizer):
    """Makes an optimizer clip the gradient of the global batch and check all replicas for inf.

    Keras clips on each replica and sums afterwards. If each of n replicas returns the n-th part of
    the clipped sum, the result is the clipped sum.
    """
    for part in optimizer_parts(optimizer):
        part._clip_gradients = functools.partial(_clip_sum, part)
        if hasattr(part, "check_finite"):
            part.check_finite = functools.partial(_check_all_finite, part)


def _clip_sum(optimizer, gradients):
    clip = functools.partial(type(optimizer)._clip_gradients, optimizer)
    clips = optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
    count = replica_count()
    if count == 1 or not clips:
        return clip(gradients)
    return [gradient / count for gradient in clip(total(gradients))]


def _check_all_finite(optimizer, gradients):
    finite = type(optimizer).check_finite(optimizer, gradients)
    return ops.equal(total(ops.cast(finite, "int32")), replica_count())


def _refuse_none(batch):
    """The batch of a replica; on CPUs a batch without images is refused.

    oneDNN, TensorFlow's library on CPUs, cannot take the gradient of a convolution over no images.
    """
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU") or os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return batch
    images, *rest = batch
    some = tf.debugging.assert_positive(
        tf.shape(images)[0],
        "On CPUs every replica must get an image of every batch. Received: a batch that leaves a "
        "replica without one, as the last batch of an epoch may. Set the environment variable "
        "TF_ENABLE_ONEDNN_OPTS=0, which allows such a batch, or choose another `batch_size`.",
    )
    with tf.control_dependencies([some]):
        return (tf.identity(images), *rest)


def _refuse_share(dataset):
    """Refuses a dataset that is a worker's share: Keras would train on a part of it."""
    import tensorflow as tf

    off = tf.data.experimental.AutoShardPolicy.OFF
    if isinstance(dataset, tf.data.Dataset) and (
        dataset.options().experimental_distribute.auto_shard_policy == off
    ):
        raise ValueError(
            "With several workers `fit` takes the whole dataset and distributes its batches. "
            "Received: a dataset with AutoShardPolicy.OFF, as a worker's share has. "
            "Make it without `shard`."
        )


def worker_of(strategy):
    """The index of this worker and the number of workers.

    Args:
        strategy: of `tf.distribute`.

    Returns:
        `(index, count)`; (0, 1) without workers.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return 0, 1
    cluster = resolver.cluster_spec()
    tasks = [
        (kind, index)
        for kind in ("chief", "worker")
        if kind in cluster.jobs
        for index in cluster.task_indices(kind)
    ]
    return tasks.index((resolver.task_type, resolver.task_id)), len(tasks)
