"""Prototypes split over devices: each reduces its own classes, and the results are joined.

Only jax runs this. Every device receives the embeddings of the global batch, multiplies them with
its own prototypes block by block, and returns one number for each sample: the split softmax of
Partial FC (An et al. 2022, arXiv:2203.15565, section 3.1).
"""

import keras
from keras import ops

_AXIS = "devices"


class PrototypeParallel(keras.distribution.ModelParallel):
    """Splits both the batch and the prototypes over the same devices.

    Every device has a copy of the embedder and computes its part of the batch. The prototypes of a
    margin head and their slots in the optimizer are split by class: their memory per device falls
    as 1/n. If n does not divide the number of classes, rows of padding are added, which have no
    effect.

    ```
    keras.distribution.set_distribution(PrototypeParallel())
    classifier = MarginClassifier(build_embedder(...), CosFace(10_000_000))
    ```

    Set it before you make the model and the head. The batch size must be a multiple of n.

    Args:
        devices: names as `keras.distribution.list_devices()` gives them; all by default.

    Raises:
        RuntimeError: the backend is not jax.

    Example:

    >>> if keras.backend.backend() == "jax":
    ...     keras.distribution.set_distribution(PrototypeParallel())
    """

    def __init__(self, devices=None):
        if keras.backend.backend() != "jax":
            raise RuntimeError(
                "Prototypes are split over devices on the jax backend only. Received: "
                f"{keras.backend.backend()}. Set KERAS_BACKEND=jax, or train with sample_rate."
            )
        devices = keras.distribution.list_devices() if devices is None else list(devices)
        mesh = keras.distribution.DeviceMesh((len(devices),), [_AXIS], devices)
        layouts = keras.distribution.LayoutMap(mesh)
        layouts[".*prototypes.*"] = (_AXIS, None)
        super().__init__(layout_map=layouts, batch_dim_name=_AXIS)


def shard_count():
    """The number of devices that share the prototypes; 1 without `PrototypeParallel`."""
    distribution = keras.distribution.distribution()
    if not isinstance(distribution, PrototypeParallel):
        return 1
    return distribution.device_mesh.shape[0]


def over_shards(reduce, reduction, labels, inputs, weights, num_classes):
    """`reduce(labels, inputs, weights, num_classes)` of each device's classes, joined.

    Each device receives labels and the number of classes relative to its first class.
    """
    import jax
    from jax.sharding import PartitionSpec

    mesh = keras.distribution.distribution().device_mesh.backend_mesh
    rows = weights[0].shape[0] // mesh.size

    def of_a_device(labels, inputs, weights):
        first = jax.lax.axis_index(_AXIS) * rows
        result, best = reduce(labels - first, inputs, weights, num_classes - first)
        return result[None], best[None]

    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    result, best = jax.shard_map(
        of_a_device,
        mesh=mesh,
        in_specs=(everywhere, everywhere, split),
        out_specs=(split, split),
        check_vma=False,
    )(labels, inputs, weights)
    return reduction.join(result), ops.max(best, axis=0)
