"""Trains, evaluates and predicts on replicas or workers, and prints the results as JSON.

    python replica_run.py REPLICAS BATCH_SIZE ...

With TF_CONFIG the process is one of several workers. It is a separate process because two
strategies in one process mix up their collectives, and all fail after an aborted one.
"""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf
from test_classifier import faces, make

from keras_facemargin import SphereFace

COUNT = 25


class Logs(keras.callbacks.Callback):
    """The logs of `fit` after each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([float(logs["loss"]), float(logs["accuracy"])])


def train(strategy, batch_size):
    images, labels = faces(COUNT)
    with strategy.scope():
        classifier = make(SphereFace, base=50.0, minimum=1.0)
    data, logs = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size), Logs()
    history = classifier.fit(data, epochs=2, shuffle=False, verbose=0, callbacks=[logs]).history
    return {
        "logs": logs.seen,
        "loss": history["loss"],
        "accuracy": history["accuracy"],
        "evaluated": classifier.evaluate(data, verbose=0),
        "predicted": classifier.predict(images, verbose=0).sum(axis=0).tolist(),
        "weights": np.concatenate([np.ravel(each) for each in classifier.weights]).tolist(),
    }


def main(replicas, batch_sizes):
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    print(json.dumps([train(strategy, size) for size in batch_sizes]))


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(size) for size in sys.argv[2:]])
