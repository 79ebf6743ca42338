"""A small embedder that has learned something, and the images it has learned it from."""

import keras
import numpy as np
import pytest
from inference import infer
from PIL import Image

from keras_facemargin.export import export_tflite

IDENTITIES, PER_IDENTITY = 16, 8


@pytest.fixture(scope="session")
def faces():
    """(128, 112, 112, 3) uint8: blurred colour patterns, eight noisy views of each of sixteen."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 255, (IDENTITIES, 1, 7, 7, 3))
    views = patterns + rng.normal(0, 20, (IDENTITIES, PER_IDENTITY, 7, 7, 3))
    views = views.clip(0, 255).astype("uint8").reshape(-1, 7, 7, 3)
    return np.stack([np.asarray(Image.fromarray(view).resize((112, 112))) for view in views])


@pytest.fixture(scope="session")
def squares():
    """Squares of random colours."""
    colours = np.random.default_rng(1).integers(0, 256, (80, 4, 4, 3)).astype("float32")
    return colours.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="session")
def uneven():
    """Builds a network whose channels differ in range by up to `most`."""

    def make(most):
        layers = keras.layers
        keras.utils.set_random_seed(1)
        image = keras.Input((16, 16, 3))
        x = layers.Rescaling(1 / 127.5, -1.0)(image)
        first, second = layers.Conv2D(16, 3, strides=2), layers.Conv2D(16, 3, strides=2)
        x = layers.PReLU(shared_axes=[1, 2])(first(x))
        model = keras.Model(image, layers.Dense(8)(layers.Flatten()(second(x))))
        factors = np.geomspace(1, most, 16).astype("float32")
        kernel, bias = first.get_weights()
        first.set_weights([kernel * factors, bias * factors])
        kernel, bias = second.get_weights()
        second.set_weights([kernel / factors[:, None], bias])
        return model

    return make


@pytest.fixture(scope="session")
def make_embedder():
    """Builds the embedder with the parts that conversions stumble over; preprocess goes first."""

    def make(preprocess=None, dtype="float32"):
        layers = keras.layers
        image = keras.Input((112, 112, 3))
        x = preprocess(image) if preprocess else image
        x = layers.Rescaling(1 / 127.5, -1.0, dtype=dtype)(x)
        for filters in (16, 64):
            x = layers.Conv2D(filters, 3, 4, padding="same", use_bias=False, dtype=dtype)(x)
            x = layers.BatchNormalization(dtype=dtype)(x)
            x = layers.PReLU(shared_axes=[1, 2], dtype=dtype)(x)
        x = layers.DepthwiseConv2D(x.shape[1], use_bias=False, dtype=dtype)(x)
        x = layers.Flatten(dtype=dtype)(x)
        x = layers.Dense(32, use_bias=False, dtype=dtype)(x)
        return keras.Model(image, layers.BatchNormalization(dtype=dtype)(x))

    return make


@pytest.fixture(scope="session")
def stumbling_blocks():
    """Preprocessing of the Applications families: BGR by a gather, fixed statistics (converters
    lose them), enlarging in the graph; and swish, whose own gradient a SavedModel refuses."""

    def preprocess(image):
        x = keras.ops.take(image, [2, 1, 0], axis=-1)
        x = keras.layers.Normalization(mean=[104.0, 117.0, 124.0], variance=[9.0, 9.0, 9.0])(x)
        x = keras.layers.Resizing(128, 128)(x)
        return keras.layers.Activation("swish")(x)

    return preprocess


@pytest.fixture(scope="session")
def train(faces):
    """Teaches an embedder the sixteen patterns: quantisation is judged on trained weights only."""

    def train(embedder, epochs=6):
        keras.utils.set_random_seed(0)
        classifier = keras.Model(
            embedder.input, keras.layers.Dense(IDENTITIES, dtype="float32")(embedder.output)
        )
        classifier.compile(
            keras.optimizers.Adam(1e-2),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        labels = np.repeat(np.arange(IDENTITIES), PER_IDENTITY)
        classifier.fit(faces.astype("float32"), labels, 32, epochs=epochs, verbose=0)
        return embedder

    return train


@pytest.fixture(scope="session")
def embedder(make_embedder, train):
    return train(make_embedder())


@pytest.fixture(scope="session")
def exported(embedder, faces, tmp_path_factory):
    """The verdict of every precision of TFLite, which has the path of its file."""
    folder = tmp_path_factory.mktemp("tflite")
    return {
        precision: export_tflite(
            embedder, folder / f"{precision}.tflite", precision=precision, images=faces
        )
        for precision in ("float32", "float16", "dynamic_int8", "int16x8", "int8")
    }


@pytest.fixture(scope="session")
def unit_embeddings():
    """Keras' own answer, computed by predict and normalised in float64."""

    def unit_embeddings(embedder, images):
        embeddings = infer(embedder, images.astype("float32")).astype("float64")
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    return unit_embeddings
