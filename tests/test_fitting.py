"""Replicas train, log, evaluate and predict as one device does, with batches of any size."""

import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from processes import finish, start, worker_environments
from strategies import replicas
from test_classifier import CLASSES, faces, make

from keras_facemargin import MarginClassifier
from keras_facemargin.fitting import worker_of
from keras_facemargin.heads import CosFace

SCRIPT = Path(__file__).parent / "replica_run.py"
WITHOUT_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}  # whose convolutions fail on no images


def assert_same(many, one):
    assert np.shape(many["logs"]) == np.shape(one["logs"])
    assert many.keys() == one.keys()
    for name, values in one.items():
        np.testing.assert_allclose(many[name], values, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.fixture(scope="module")
def one_device():
    """Results of one device with 25 images, by batch size."""
    from replica_run import train

    return {size: train(replicas(1), size) for size in (8, 7)}


def test_two_replicas_log_train_and_predict_as_one_device(one_device):
    """The first batch does not divide by two."""
    from replica_run import train

    assert len(one_device[7]["logs"]) == 2 * 4
    assert_same(train(replicas(2), 7), one_device[7])


@pytest.mark.slow
def test_four_replicas_as_one_device(one_device):
    """Batches of 8 of 25 leave one image for the last: three replicas get none."""
    ((code, output, errors),) = finish(start(SCRIPT, 4, 8, **WITHOUT_ONEDNN))
    assert code == 0, errors
    assert_same(json.loads(output)[0], one_device[8])


@pytest.mark.slow
def test_two_workers_as_one_device(one_device):
    workers = [
        start(SCRIPT, 1, 8, TF_CONFIG=config, **WITHOUT_ONEDNN) for config in worker_environments(2)
    ]
    for code, output, errors in finish(*workers):
        assert code == 0, errors
        assert_same(json.loads(output)[0], one_device[8])


@pytest.mark.slow
def test_a_replica_without_images_is_refused_where_tensorflow_fails():
    ((code, _, errors),) = finish(start(SCRIPT, 2, 8))
    assert code != 0
    assert "every replica must get an image of every batch. Received:" in errors
    assert "TF_ENABLE_ONEDNN_OPTS=0" in errors


def test_weight_regularisers_count_once_on_any_number_of_replicas():
    images, labels = faces(9)
    logs = []
    for count in (1, 2):
        with replicas(count).scope():
            keras.utils.set_random_seed(1)
            embedder = keras.Sequential(
                [
                    keras.Input(images.shape[1:]),
                    keras.layers.Flatten(),
                    keras.layers.Dense(6, kernel_regularizer=keras.regularizers.L2(0.5)),
                ]
            )
            classifier = MarginClassifier(embedder, CosFace(CLASSES, scale=16.0))
            classifier.compile(keras.optimizers.SGD(1e-4))
        logs.append(classifier.fit(images, labels, batch_size=4, shuffle=False, verbose=0).history)
    assert logs[1]["loss"] == pytest.approx(logs[0]["loss"], rel=1e-5)
    with replicas(1).scope():
        plain = make(scale=16.0)
    assert plain.evaluate(images, labels, verbose=0)[0] < 0.9 * logs[0]["loss"][0]


def test_fit_takes_no_extra_batch_to_build_the_model():
    """The first pass of a pipeline that counts its passes is the first epoch."""
    import tensorflow as tf

    images, labels = faces(8)
    passes = []

    def draw():
        passes.append(len(passes))
        yield images, labels

    data = tf.data.Dataset.from_generator(
        draw,
        output_signature=(
            tf.TensorSpec((None, *images.shape[1:])),
            tf.TensorSpec((None,), tf.int32),
        ),
    ).apply(tf.data.experimental.assert_cardinality(1))
    with replicas(2).scope():
        classifier = make()
    classifier.fit(data, epochs=2, shuffle=False, verbose=0)
    assert passes == [0, 1]


@pytest.mark.any_backend
def test_compiled_metrics_are_built_without_a_batch():
    class MeanNorm(keras.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(keras.ops.norm(y_pred, axis=-1))

    images, labels = faces(8)
    classifier = make()
    classifier.compile("sgd", metrics=[MeanNorm(name="norm")])
    report = classifier.evaluate(images, labels, verbose=0, return_dict=True)
    norms = np.linalg.norm(classifier.predict(images, verbose=0), axis=-1)
    assert report["norm"] == pytest.approx(norms.mean(), rel=1e-5)


@pytest.mark.parametrize("setting", [{"jit_compile": True}, {"steps_per_execution": 2}])
def test_settings_that_fail_with_replicas_are_refused(setting):
    (name, value) = next(iter(setting.items()))
    with replicas(2).scope():
        classifier = make()
        with pytest.raises(ValueError, match=rf"{name}={value}.*Received: .*2 replicas.*Leave"):
            classifier.compile("sgd", **setting)
    make().compile("sgd", **setting)  # one device can


def test_a_share_of_the_data_is_refused():
    import tensorflow as tf

    from keras_facemargin.fitting import _refuse_share

    whole, options = tf.data.Dataset.range(4), tf.data.Options()
    _refuse_share(whole)
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    with pytest.raises(ValueError, match=r"takes the whole dataset.*Received: .*without `shard`"):
        _refuse_share(whole.with_options(options))


@pytest.mark.parametrize(
    ("jobs", "task", "place"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), (1, 2)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("chief", 0), (0, 3)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("worker", 0), (1, 3)),
        ({}, (None, None), (0, 1)),
    ],
)
def test_index_and_count_of_workers(jobs, task, place):
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(jobs), task_type=task[0], task_id=task[1]
    )
    assert worker_of(SimpleNamespace(cluster_resolver=resolver)) == place
    assert worker_of(replicas(2)) == (0, 1)


@pytest.mark.any_backend
def test_keras_calls_the_overridden_methods(monkeypatch):
    """If this fails, a correction no longer runs: read Keras' trainer again."""
    called = []
    overridden = ["_symbolic_build", "compute_metrics", "_get_metrics_result_or_logs"]
    if keras.backend.backend() == "jax":
        overridden.append("_get_jax_state")
    for name in overridden:
        original = getattr(MarginClassifier, name)
        monkeypatch.setattr(
            MarginClassifier,
            name,
            lambda *args, name=name, original=original, **kwargs: (
                called.append(name) or original(*args, **kwargs)
            ),
        )
    images, labels = faces(8)
    classifier = make()
    classifier.fit(images, labels, verbose=0)
    assert set(called) == set(overridden)
    assert classifier._epochs.num_batches == 1
