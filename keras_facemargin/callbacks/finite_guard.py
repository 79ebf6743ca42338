"""Stops at a loss that is not finite, before it reaches a weight, and names its origin."""

import keras
import numpy as np
from keras import ops

from keras_facemargin.backend.host_call import call_if, can_call


class FiniteGuard(keras.callbacks.Callback):
    """Stops `fit` at the first loss that is not finite, and names the layer and the sample.

    Keras' `TerminateOnNaN` sees the mean loss after the step, when every weight is NaN already.
    This callback checks the loss of each sample inside the step. If one is not finite, it sends the
    batch through the embedder again, layer by layer, and `fit` raises an error with the finding. On
    TensorFlow and torch the trainable weights are then those before the step (the averages of batch
    normalisation include the batch). On jax the compiled step has consumed its weights: load the
    last checkpoint. A step with finite losses costs one check of (B,) numbers.

    `culprit` holds the finding: `epoch`, `batch`, `index` (of the sample in the batch), `label`,
    `image`, `layer` (None if all outputs are finite: then the head is the cause).

    Example:

    >>> guard = FiniteGuard()  # classifier.fit(..., callbacks=[guard])
    >>> guard.report is None
    True
    """

    def __init__(self):
        super().__init__()
        self.report = None
        self.culprit = None

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "guard"):
            raise ValueError(
                "FiniteGuard watches a MarginClassifier. "
                f"Received: a model of type {type(self.model).__name__}."
            )
        if not can_call(self.model.jit_compile):
            raise ValueError(
                "FiniteGuard calls Python inside the step, and XLA on TensorFlow cannot do that. "
                "Received: a model compiled with jit_compile=True. Compile it with "
                "jit_compile=False, or leave the guard out."
            )
        self.report = None
        self.culprit = None
        self.model.guard = self
        self.model.open_contexts.callback(self.release)
        self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self._batch = batch

    def release(self):
        """Removes the guard from the model."""
        self.model.guard = None
        self.model.train_function = None

    def watch(self, images, labels, losses):
        """Returns the losses of a step, and stops it if one of them is not finite."""
        bad = ops.logical_not(ops.all(ops.isfinite(losses)))
        variables = (*self.model.embedder.variables, *self.model.head.variables)
        weights = [ops.convert_to_tensor(variable) for variable in variables]
        return losses * call_if(bad, self._explain, images, labels, losses, *weights)

    def _explain(self, images, labels, losses, *weights):
        index = int(np.flatnonzero(~np.isfinite(losses))[0])
        count = int((~np.isfinite(losses)).sum())
        clone = keras.models.clone_model(self.model.embedder)
        own = len(clone.variables)
        clone.set_weights(weights[:own])
        layer, finding = _first_not_finite(clone, images, index)
        for variable, value in zip(self.model.head.variables, weights[own:], strict=True):
            if layer is None and not np.isfinite(value.astype("float64")).all():
                finding = f"The weight {variable.path} of the head is not finite."
        self.culprit = {
            "epoch": self._epoch,
            "batch": self._batch,
            "index": index,
            "label": int(np.reshape(labels, -1)[index]),
            "image": images[index],
            "layer": layer,
        }
        self.report = (
            f"The loss is not finite in epoch {self._epoch}, batch {self._batch}: {count} of "
            f"{len(losses)} samples, the first at index {index} with label "
            f"{self.culprit['label']}. {finding} No weight was trained on it. Look at that image "
            "(`guard.culprit['image']`), lower the learning rate, clip gradients, or let margin "
            "and scale grow (`MarginRamp`, `ScaleRamp`)."
        )
        raise FloatingPointError(self.report)


def _first_not_finite(model, images, index):
    """Name of the first layer whose output is not finite for one sample, and a sentence."""
    if not np.isfinite(images[index]).all():
        return "input", "The image itself is not finite."
    probe = keras.Model(model.input, [layer.output for layer in model.layers])
    for layer, output in zip(model.layers, probe(images, training=True), strict=True):
        output = np.asarray(ops.convert_to_numpy(output), "float64")
        if np.isfinite(output).all(axis=tuple(range(1, output.ndim)))[index]:
            largest = f"{np.abs(output).max():.3g}"
            continue
        for weight in layer.weights:
            if not np.isfinite(np.asarray(ops.convert_to_numpy(weight), "float64")).all():
                return layer.name, f"The weight {weight.path} is not finite."
        return layer.name, (
            f"The first layer whose output is not finite is {layer.name!r} "
            f"({type(layer).__name__}, {layer.compute_dtype}); before it the largest value was "
            f"{largest}."
        )
    return None, (
        "Every layer of the embedder gives finite numbers (the largest is "
        f"{largest}): it is the head."
    )
