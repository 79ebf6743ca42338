"""The base class of heads and of `CenterLoss`, which checks labels and computes in float32."""

import keras

from keras_facemargin.heads.margin_head.labels import checked_array, is_tensor


class LabelledLayer(keras.layers.Layer):
    """A layer of embeddings and labels that computes in float32 or float64.

    A subclass has `num_classes`, and `call(embeddings, labels=None, ...)`.

    Args:
        **kwargs: of `keras.layers.Layer`; without `dtype` the layer computes in float32, whatever
            the global policy.

    Raises:
        ValueError: `dtype` has half precision.
    """

    def __init__(self, **kwargs):
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = keras.DTypePolicy("float32")
        super().__init__(**kwargs)
        if self.compute_dtype not in ("float32", "float64"):
            raise ValueError(
                f"{type(self).__name__} computes in float32 or float64: half precision loses the "
                f"differences of cosines near 1. Received: dtype={self.compute_dtype!r}. Leave "
                "`dtype` out; under a mixed policy the embedder alone computes in half precision."
            )

    def __call__(self, embeddings, labels=None, **kwargs):
        if labels is None:
            return super().__call__(embeddings, **kwargs)
        if not is_tensor(labels):  # before Keras converts them
            labels = checked_array(labels, self.num_classes)
        return super().__call__(embeddings, labels, **kwargs)
