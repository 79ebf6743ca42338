"""A small run with all kinds of training state; `tests/callbacks/test_exact_resume.py` kills it.

    python resume_run.py FACES DIRECTORY LOG SEED DIE_AFTER [WHILE_WRITING]

It appends a line for each step to LOG and kills itself, as `kill -9` does, after DIE_AFTER steps.
"""

import json
import os
import signal
import sys

import keras
from graphs import run_graphs_as_traced

from keras_facemargin import ElasticFace, MarginClassifier
from keras_facemargin.callbacks import ExactResume, MarginRamp
from keras_facemargin.data import FaceFolder

SIDE, EPOCHS, BATCH = 16, 3, 4


class StepLog(keras.callbacks.Callback):
    """Records the logs of each step, and calls `after` with the number of steps."""

    def __init__(self, note, after=lambda steps: None):
        super().__init__()
        self.note, self.after, self.steps = note, after, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.note([self.epoch, batch, float(logs["loss"]), float(logs["accuracy"])])
        self.steps += 1
        self.after(self.steps)


def build(classes, seed, optimizer=None, dropout=0.3):
    """An embedder with dropout and batch normalisation, and a head with random margins."""
    keras.utils.set_random_seed(seed)
    embedder = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Conv2D(4, 3, strides=2),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(6),
        ]
    )
    classifier = MarginClassifier(embedder, ElasticFace(classes, scale=16.0, seed=9))
    rate = keras.optimizers.schedules.CosineDecay(0.01, 40)
    classifier.compile(optimizer or keras.optimizers.Adam(rate))
    return classifier


def run(faces, directory, note, seed, after=lambda steps: None, remember=(), model=None, every=2):
    """Trains to the end from the newest checkpoint; returns the classifier and its history."""
    resume = ExactResume(directory, every=every, remember=remember)
    classifier = model or build(faces.num_classes, seed)
    data = faces.dataset(BATCH, training=True, seed=5, start=resume.start)
    history = classifier.fit(
        data,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[MarginRamp(epochs=2.5), *remember, resume, StepLog(note, after)],
    )
    return classifier, history.history


def main(folder, directory, log, seed, die_after, while_writing=False):
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def after(steps):
        if steps == int(die_after):
            if not while_writing:
                die()
            os.fsync = die  # the next checkpoint is written and not yet renamed

    with open(log, "a", buffering=1) as stream:
        run(
            FaceFolder(folder, image_size=SIDE),
            directory,
            lambda line: stream.write(json.dumps(line) + "\n"),
            int(seed),
            after,
        )


if __name__ == "__main__":
    run_graphs_as_traced()  # as the tests that compare with it
    main(*sys.argv[1:])
