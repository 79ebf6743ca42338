"""Losses, gradients and state of cases on the current backend: write_values.py OUT.npz CASE..."""

import sys

import keras
import numpy as np
from cases import DIM, batch, make
from gradients import sum_of_losses
from jax_cache import keep_compiled_functions


def values_of(names):
    values = {}
    for case in names:
        head = make(case)
        head.build((None, DIM))
        embeddings, labels, prototypes = batch(1, shape=head.prototypes_shape)
        embeddings = embeddings.astype("float32")
        head.prototypes.assign(prototypes.astype("float32"))
        head.compute_losses(embeddings, labels, training=True)
        _, by_embeddings, by_prototypes = sum_of_losses(head, embeddings, labels)
        values[f"{case}/losses"] = keras.ops.convert_to_numpy(
            head.compute_losses(embeddings, labels)[0]
        )
        values[f"{case}/by_embeddings"] = by_embeddings
        values[f"{case}/by_prototypes"] = by_prototypes
        values[f"{case}/state"] = np.concatenate(
            [keras.ops.convert_to_numpy(weight).ravel() for weight in head.weights]
        )
    return values


if __name__ == "__main__":
    path, *names = sys.argv[1:]
    if keras.backend.backend() == "jax":
        keep_compiled_functions()
    np.savez(path, **values_of(names))
