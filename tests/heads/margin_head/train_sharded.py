"""Trains heads on one device, then on all of some host devices: jax, one process.

python train_sharded.py DEVICES OUT.npz
"""

import os
import sys
import warnings

devices, out = int(sys.argv[1]), sys.argv[2]
os.environ["KERAS_BACKEND"] = "jax"
flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"

import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from jax_cache import keep_compiled_functions  # noqa: E402

from keras_facemargin import MarginClassifier, PrototypeParallel, heads  # noqa: E402

warnings.simplefilter("ignore")
# Weights of one row and of one number a class, several rows a class, and both reductions; by eight
# devices also a statistic of the batch and a margin for each class.
HEADS = ("CosFace", "L2Softmax", "SubCenterArcFace", "SphereFace2")
MORE = ("AdaCos", "ArcFace")
CLASSES, DIM, BATCH = 21, 6, 16
ARGUMENTS = {"ArcFace": {"margin": np.linspace(0.1, 0.6, CLASSES)}}  # one for each class


def train(name, count, found):
    """Adds the results of a head on `count` devices; many also load what one device saved."""
    keras.utils.set_random_seed(0)
    images = keras.Input((1, 1, DIM))
    projection = keras.layers.Dense(DIM, kernel_initializer="identity")
    embedder = keras.Model(images, projection(keras.layers.Flatten()(images)))
    head = getattr(heads, name)(CLASSES, blockwise=True, **ARGUMENTS.get(name, {}))
    classifier = MarginClassifier(embedder, head)
    rng = np.random.default_rng(0)
    head.set_prototypes(rng.normal(size=(CLASSES, DIM)))
    if name == "SubCenterArcFace":
        rows = rng.normal(size=(CLASSES, 3, DIM))
        head.set_prototypes(rows)
    classifier.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    x = rng.normal(size=(4 * BATCH, 1, 1, DIM)).astype("float32")
    y = rng.integers(0, CLASSES, 4 * BATCH)
    y[3] = -1
    arguments = {"batch_size": BATCH, "verbose": 0}
    history = classifier.fit(x, y, epochs=2, shuffle=False, **arguments).history
    prefix = f"{count}/{name}"
    found[f"{prefix}/loss"] = history["loss"]
    found[f"{prefix}/accuracy"] = history["accuracy"]
    if name == HEADS[0]:
        found[f"{prefix}/evaluated"] = classifier.evaluate(x, y, **arguments)
    prototypes = head.prototypes.value
    found[f"{prefix}/prototypes"] = np.asarray(prototypes)[:CLASSES]
    found[f"{prefix}/logits"] = np.asarray(head(np.ones((2, DIM), "float32")))
    shards = prototypes.addressable_shards
    found[f"{prefix}/rows a device"] = [shard.data.shape[0] for shard in shards]
    (momentum,) = [
        v.value for v in classifier.optimizer.variables if "prototypes_momentum" in v.path
    ]
    found[f"{prefix}/momentum rows a device"] = [
        shard.data.shape[0] for shard in momentum.addressable_shards
    ]
    file = out.replace(".npz", f".{count}.{name}.weights.h5")
    classifier.save_weights(file)
    head.prototypes.assign(np.zeros(head.prototypes.shape))
    classifier.load_weights(file)
    found[f"{prefix}/loaded"] = np.asarray(head.prototypes.value)[:CLASSES]
    if count > 1:
        file = out.replace(".npz", f".1.{name}.weights.h5")
        classifier.load_weights(file, skip_mismatch=True)  # the optimizer has other padding
        found[f"{prefix}/of others"] = np.asarray(head.prototypes.value)[:CLASSES]


def step_memory(count, classes=4001, dim=32):
    """Bytes on a device in a step: its prototypes, their gradient, and temporary arrays."""
    head = heads.CosFace(classes, blockwise=True)
    head.build((None, dim))

    def loss(values, x, y):
        mapping = zip(head.trainable_variables, values, strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            return keras.ops.mean(head.compute_losses(x, y, training=True)[0])

    values = [v.value for v in head.trainable_variables]
    shardings = [value.sharding for value in values]
    step = jax.jit(jax.grad(loss), out_shardings=shardings if count > 1 else None)
    x, y = np.ones((BATCH, dim), "float32"), np.zeros(BATCH, "int32")
    memory = step.lower(values, x, y).compile().memory_analysis()
    prototypes = memory.argument_size_in_bytes - x.nbytes - y.nbytes
    return prototypes, memory.output_size_in_bytes, memory.temp_size_in_bytes


assert jax.device_count() == devices
keep_compiled_functions()
found = {}
for count in (1, devices):
    if count > 1:
        keras.distribution.set_distribution(PrototypeParallel())
    for name in HEADS if devices <= 4 else HEADS[:1] + MORE:
        train(name, count, found)
    found[f"{count}/memory"] = step_memory(count)
np.savez(out, **found)
