"""MarginClassifier: embedder + head, trained with Keras' own `fit`."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_facemargin.backend.replicas import total
from keras_facemargin.backend.trainer import xla_is_faster
from keras_facemargin.batches import Inspector
from keras_facemargin.fitting import DistributedFit, optimizer_parts
from keras_facemargin.heads.margin_head.labels import IGNORED
from keras_facemargin.heads.margin_head.sampling import SampleExchange

# Adafactor keeps sums over rows; ScheduleFreeAdamW starts with the weights themselves.
_UNFIT_FOR_SAMPLES = (keras.optimizers.Adafactor, keras.optimizers.ScheduleFreeAdamW)


@keras.saving.register_keras_serializable("keras_facemargin")
class MarginClassifier(DistributedFit, keras.Model):
    """Trains an embedder with a margin head through `compile` and `fit`; predicts embeddings.

    ```
    classifier = MarginClassifier(embedder, CosFace(num_classes))
    classifier.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    classifier.fit(images, labels)
    embeddings = classifier.predict(images)
    classifier.embedder.save("embedder.keras")
    ```

    The head computes the loss, and no Keras loss is needed: labels remain integers, without a cast
    to a compute dtype, and the loss is averaged over the *global* batch, so that replicas with
    unequal or empty shares of a last batch train as one device does. `accuracy` is the accuracy of
    the similarities without margin, in training and in evaluation. Samples with label -1 do not
    count in loss and accuracy.

    Under `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy` make embedder, head and
    classifier inside `strategy.scope()`. Batch normalisation is then synchronised over the
    replicas, and `keras_facemargin/fitting.py` corrects faults of Keras.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D); see `build_embedder`.
        head: a `MarginHead`, such as `CosFace(num_classes)`.
        **kwargs: arguments of `keras.Model`.

    Raises:
        ValueError: `embedder` does not return (B, D); `fit` or `evaluate` without labels; labels
            out of range (see `MarginHead`).

    Example:

    >>> import numpy as np
    >>> from keras_facemargin.heads import CosFace
    >>> embedder = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(),
    ...                              keras.layers.Dense(16)])
    >>> classifier = MarginClassifier(embedder, CosFace(num_classes=4))
    >>> classifier.compile("sgd")
    >>> images, labels = np.random.rand(6, 8, 8, 3) * 255, np.array([0, 1, 2, 3, 0, 1])
    >>> history = classifier.fit(images, labels, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    >>> classifier.predict(images, verbose=0).shape
    (6, 16)
    """

    def __init__(self, embedder, head, **kwargs):
        super().__init__(**kwargs)
        if len(embedder.output_shape) != 2:
            raise ValueError(
                "`embedder` must map images to embeddings of shape (batch, dim). "
                f"Received: {embedder.name!r} with output shape {embedder.output_shape}"
            )
        self.embedder = embedder
        self.head = head
        self.accuracy = keras.metrics.Mean(name="accuracy")
        self.guard = None  # a `FiniteGuard` while one watches `fit`
        self.open_contexts = contextlib.ExitStack()  # of callbacks; closed when `fit` ends
        self.inspector = Inspector(head.num_classes)
        if not head.built:
            head.build(embedder.output_shape)
        self.sample_exchange = SampleExchange(head) if head.samples else None
        self.build(embedder.input_shape)

    def build(self, input_shape):
        self.built = True

    def call(self, images, training=None):
        return self.embedder(images, training=training)

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile=None,
        **kwargs,
    ):
        """Like `keras.Model.compile`, with the same order of arguments, but the head is the loss.

        Args:
            optimizer: a Keras optimizer or its name.
            loss, loss_weights: must be None.
            metrics, weighted_metrics, run_eagerly, steps_per_execution: as Keras takes them.
            jit_compile: None compiles with XLA where that is faster and possible: on jax, and on
                one TensorFlow GPU. (On the CPU TensorFlow's own kernels are faster; with several
                replicas XLA fails.)
            **kwargs: `auto_scale_loss`.

        Raises:
            ValueError: a loss is given; `jit_compile=True` or `steps_per_execution` above 1 with
                several replicas, where TensorFlow fails; the optimizer has a setting that means
                something else under a strategy of `tf.distribute` or with a `sample_rate` below 1
                (`keras_facemargin/fitting.py`, `keras_facemargin/heads/margin_head/sampling.py`).
        """
        if loss is not None or loss_weights is not None:
            raise ValueError(
                "The head is the loss: leave `loss` and `loss_weights` out of compile(). "
                f"Received: loss={loss!r}, loss_weights={loss_weights!r}"
            )
        if jit_compile is None:
            jit_compile = "auto" if xla_is_faster(self.replicas) else False
        optimizer = keras.optimizers.get(optimizer)
        if self.head.samples:
            _refuse_spanning(optimizer)
        super().compile(
            optimizer=optimizer,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )
        for layer in self.embedder._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = self.replicas > 1
        if self.head.samples:
            self.optimizer.build(self.trainable_variables)
            _refuse_differences(self.optimizer, self.head)
            self.sample_exchange.follow(self.optimizer)

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        config.pop("jit_compile")  # decided again, because the backend may differ
        try:
            self.compile(**config)
        except ValueError as error:  # saved on another machine or by an earlier version
            warnings.warn(
                f"The model is loaded without its optimizer, compile it. {error}", stacklevel=2
            )
            return
        self.optimizer.build(self.trainable_variables)

    def with_head(self, head):
        """The same embedder with another head, which starts from the prototypes of this one.

        Train with a softmax head first, then with a margin: train, change the head, compile, train.
        The embedder is shared, not copied; the prototypes are copied (`MarginHead.set_prototypes`).

        Args:
            head: a `MarginHead` with as many classes.

        Returns:
            A `MarginClassifier`, not compiled.

        Raises:
            ValueError: the head has another number of classes.
        """
        classifier = type(self)(self.embedder, head)
        head.set_prototypes(self.head.prototypes)
        return classifier

    def imprint(self, x, y=None, *, batch_size=32):
        """Sets the prototype of each class in the data to the mean embedding of its images.

            w_c = m_c / |m_c|,   m_c = mean over the images i of class c of e_i / |e_i|

        The mean embedding is a good classifier of new classes before any training, and a start
        from which the first steps do little damage to the embedder (Qi, Brown, Lowe, "Low-Shot
        Learning with Imprinted Weights", CVPR 2018, arXiv:1712.07136). Classes without an image in
        the data keep their prototypes: imprint all classes first, or only those that are new or
        replaced.

        A head with more classes continues from a trained one:

        ```
        larger = MarginClassifier(classifier.embedder, CosFace(12))
        larger.head.set_prototypes(classifier.head.prototypes, classes=range(10))
        larger.imprint(new_images, new_labels)  # labels 10 and 11
        ```

        Args:
            x: images (N, H, W, 3), or one pass over batches (images, labels): a `tf.data.Dataset`,
                a `PyDataset` or another iterable that ends.
            y: labels (N,) if `x` are images. Samples with label -1 do not count.
            batch_size: images a call of the embedder, if `x` are images.

        Raises:
            ValueError: a label is not a class, no sample has one, images and labels differ in
                number, or an embedding is zero or not finite.

        Example:

        >>> import numpy as np
        >>> from keras_facemargin.heads import CosFace
        >>> embedder = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten()])
        >>> classifier = MarginClassifier(embedder, CosFace(num_classes=2))
        >>> classifier.imprint(np.array([[[[3.0, 0, 0]]], [[[0, 4, 0]]]]), np.array([0, 1]))
        >>> ops.convert_to_numpy(classifier.head.prototypes).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        """
        sums = {}
        for images, labels in _batches(x, y, batch_size):
            self.inspector.look(None, labels)
            if not ops.is_tensor(images):  # a tensor of tf.data on another backend, too
                images = np.asarray(images)
            embeddings = np.asarray(self.predict_on_batch(images), "float64")
            lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
            if not (np.isfinite(lengths) & (lengths > 0)).all():
                raise ValueError(
                    "A mean embedding needs embeddings with a direction. Received: one that is "
                    "zero or not finite. Check the images and the embedder's weights."
                )
            labels = np.asarray(ops.convert_to_numpy(labels)).reshape(-1)
            for label, direction in zip(labels.tolist(), embeddings / lengths, strict=True):
                if label != IGNORED:
                    sums[label] = sums.get(label, 0.0) + direction
        if not sums:
            raise ValueError(
                "Prototypes are imprinted from images with a class. Received: no image with a "
                "label of 0 or more."
            )
        means = np.stack(list(sums.values()))
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        self.head.set_prototypes(means.astype("float32"), classes=list(sums))

    def train_step(self, *state_and_data):
        exchange = self.sample_exchange
        if exchange is None:
            return super().train_step(*state_and_data)
        *state, data = state_and_data
        labels = ops.reshape(keras.utils.unpack_x_y_sample_weight(data)[1], (-1,))
        if not state:  # a trainer whose steps assign
            exchange.gather_rows(labels)
            logs = super().train_step(data)
            exchange.scatter_rows()
            return logs
        state = self._with_assigned(state[0], lambda: exchange.gather_rows(labels))
        logs, state = super().train_step(state, data)
        return logs, self._with_assigned(state, exchange.scatter_rows)

    def _with_assigned(self, state, assign):
        """The state of a jax trainer after assignments to its variables."""
        groups = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        )
        mapping = [
            pair
            for variables, values in zip(groups, state, strict=True)
            for pair in zip(variables, values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            assign()
        return tuple([scope.get_current_value(v) for v in group] for group in groups)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Like `keras.Model.fit`.

        Raises:
            ValueError: a label is not a class.
            FloatingPointError: under a `FiniteGuard`, at a loss that is not finite.
        """
        self._inspect(x, y)
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple | list) and len(validation) > 1:
            self.inspector.look(None, validation[1])
        try:
            return super().fit(x, y, *args, **kwargs)
        except Exception as error:
            self._raise_fault(error)
            # The backend wraps an error from a callback of a compiled step.
            report = self.guard and self.guard.report
            if report is None or isinstance(error, FloatingPointError):
                raise
            raise FloatingPointError(report) from None
        finally:
            self.open_contexts.close()

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Like `keras.Model.evaluate`; NaN if no sample has a label.

        Raises:
            ValueError: a label is not a class.
        """
        if "_use_cached_eval_dataset" not in kwargs:  # not within `fit`
            self._inspect(x, y)
        try:
            return super().evaluate(x, y, *args, **kwargs)
        except Exception as error:
            self._raise_fault(error)
            raise

    def train_on_batch(self, x, y=None, *args, **kwargs):
        self.inspector.look(None, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        self.inspector.look(None, y)
        return super().test_on_batch(x, y, *args, **kwargs)

    def _inspect(self, images, labels):
        """Checks arrays now; streams are checked batch by batch."""
        self.inspector.begin()
        if labels is not None:
            self.inspector.look(images, labels)

    def _raise_fault(self, error):
        """Raises the inspector's error about a batch, which the backend's pipeline wraps."""
        if self.inspector.fault is not None:
            self.restore_variables()
            if not isinstance(error, ValueError):
                raise ValueError(self.inspector.fault) from None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is None:
            raise ValueError(
                "`fit` and `evaluate` need the class of each image. Received: no labels. Pass "
                "(images, labels)."
            )
        losses, correct = self.head.compute_losses(y_pred, y, training=training)
        if self.guard is not None and training:
            losses = self.guard.watch(x, y, losses)
        valid = ops.cast(ops.not_equal(ops.reshape(y, (-1,)), IGNORED), losses.dtype)
        if sample_weight is not None:
            losses = losses * ops.cast(ops.reshape(sample_weight, (-1,)), losses.dtype)
        self.accuracy.update_state(correct, sample_weight=valid)
        # Weight regularisers.
        extra = sum(ops.cast(ops.sum(each), losses.dtype) for each in self.losses)
        loss, count = ops.sum(losses), ops.sum(valid)
        self.mean_loss.add(loss + extra * count, count)
        return loss / ops.maximum(total(count), 1.0) + extra / self.replicas

    def get_config(self):
        config = super().get_config()
        config["embedder"] = keras.saving.serialize_keras_object(self.embedder)
        config["head"] = keras.saving.serialize_keras_object(self.head)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for part in ("embedder", "head"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)


def _batches(x, y, batch_size):
    """(images, labels) of arrays or of a stream, batch by batch."""
    if y is not None:
        if len(x) != len(y):
            raise ValueError(
                f"Each image needs a label. Received: {len(x):,} images and {len(y):,} labels."
            )
        for start in range(0, len(x), batch_size):
            yield x[start : start + batch_size], y[start : start + batch_size]
        return
    indexed = isinstance(x, keras.utils.PyDataset)
    for batch in (x[i] for i in range(x.num_batches)) if indexed else x:
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if labels is None:
            raise ValueError(
                "Prototypes are imprinted from images and labels. Received: no labels. Pass "
                "(images, labels)."
            )
        yield images, labels


def _refuse_spanning(optimizer):
    """Refuses optimizers whose state is not one row for each prototype, or spans several steps."""
    for part in optimizer_parts(optimizer):
        if isinstance(part, _UNFIT_FOR_SAMPLES):
            raise ValueError(
                "With a `sample_rate` below 1 an optimizer must keep a row of state for each "
                f"prototype that begins with one number. Received: {type(part).__name__}. Use SGD, "
                "Adam or AdamW, or make the head with sample_rate=1."
            )
        for name in ("use_ema", "gradient_accumulation_steps"):
            value = getattr(part, name, None)
            if value:
                raise ValueError(
                    "With a `sample_rate` below 1 each step trains other prototypes, and "
                    f"`{name}` combines the weights or gradients of several steps. Received: an "
                    f"optimizer with {name}={value!r}. Leave it out, or make the head with "
                    "sample_rate=1."
                )


def _refuse_differences(optimizer, head):
    """Refuses a built optimizer that would treat the sample unlike the prototypes."""
    sampled = [(head.prototypes, head.sample)]
    if head.bias is not None:
        sampled.append((head.bias, head.sample_bias))
    for table, part in sampled:
        prefix = part.path.replace("/", "_") + "_"
        slots = [each for each in optimizer.variables if each.name.startswith(prefix)]
        for values in map(ops.convert_to_numpy, slots):
            if (values != values.flat[0]).any():
                raise ValueError(
                    "With a `sample_rate` below 1 the optimizer must be new: its state belongs to "
                    "the prototypes that the last step drew. Received: "
                    f"{type(optimizer).__name__} that has trained. Make a new one."
                )
        for owner in optimizer_parts(optimizer):
            if owner.weight_decay and (
                owner._use_weight_decay(table) != owner._use_weight_decay(part)
            ):
                raise ValueError(
                    f"With a `sample_rate` below 1 a step trains {part.name!r} instead of "
                    f"{table.name!r}. Received: an optimizer that excludes one of them from weight "
                    "decay. Name both in `exclude_from_weight_decay`."
                )
