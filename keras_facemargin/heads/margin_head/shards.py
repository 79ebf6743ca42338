"""Prototypes split over devices: each reduces its own classes, and the results are joined.

Only jax runs this. Embeddings of the global batch are gathered to every device, each multiplies
them with its own prototypes block by block, and what travels back is one number a sample and a
device: the split softmax of Partial FC (An et al. 2022, arXiv:2203.15565, section 3.1).
"""

import keras
from keras import ops

_AXIS = "devices"


class PrototypeParallel(keras.distribution.ModelParallel):
    """Batches and prototypes over the same devices: each has a part of either.

    The embedder is copied to every device and computes its part of the batch; the prototypes of a
    margin head, and what an optimizer remembers of them, are split by class. Memory of the
    prototypes falls as 1/n. A number of classes that the devices do not divide is padded with rows
    that count for nothing.

    ```
    keras.distribution.set_distribution(PrototypeParallel())
    classifier = MarginClassifier(build_embedder(...), CosFace(10_000_000))
    ```

    Set it before model and head are made. The batch size must be a multiple of the devices.

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
    """Over how many devices prototypes are split."""
    distribution = keras.distribution.distribution()
    if not isinstance(distribution, PrototypeParallel):
        return 1
    return distribution.device_mesh.shape[0]


def over_shards(reduce, reduction, labels, inputs, weights, num_classes):
    """`reduce(labels, inputs, weights, num_classes)` of each device's classes, joined.

    Labels and the number of classes are told to each device as counted from its first class.
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
