import inspect

import keras
import numpy as np
import pytest
from strategies import replicas

from keras_facemargin import (
    ArcFace,
    CosFace,
    MarginClassifier,
    NormFace,
    SphereFace,
    SubCenterArcFace,
)

SIDE, DIM, CLASSES = 8, 6, 5
any_backend = pytest.mark.any_backend


def make_embedder():
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Conv2D(4, 3, strides=2),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(DIM),
            keras.layers.BatchNormalization(dtype="float32"),
        ]
    )


def make(head=CosFace, **arguments):
    keras.utils.set_random_seed(1)
    head = head(CLASSES, **(arguments or {"scale": 16.0}))
    classifier = MarginClassifier(make_embedder(), head)
    classifier.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    return classifier


def faces(count=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    patterns = np.random.default_rng(9).uniform(0, 255, (CLASSES, SIDE, SIDE, 3))
    images = patterns[labels] + rng.normal(0, 20, (count, SIDE, SIDE, 3))
    return images.clip(0, 255).astype("float32"), labels


@any_backend
def test_fit_learns_evaluate_reports_predict_embeds():
    images, labels = faces()
    classifier = make()
    before = classifier.evaluate(images, labels, verbose=0, return_dict=True)
    history = classifier.fit(images, labels, batch_size=8, epochs=8, verbose=0).history
    after = classifier.evaluate(images, labels, verbose=0, return_dict=True)
    assert set(history) == set(after) == {"loss", "accuracy"}
    assert after["loss"] < 0.2 * before["loss"]
    assert after["accuracy"] == 1.0
    embeddings = classifier.predict(images, verbose=0)
    assert embeddings.shape == (40, DIM)
    np.testing.assert_allclose(
        embeddings, classifier.embedder.predict(images, verbose=0), rtol=1e-5, atol=1e-5
    )


@any_backend
def test_accuracy_is_that_of_plain_cosines_and_loss_that_of_the_margin():
    images, labels = faces()
    classifier = make(ArcFace, margin=1.2, scale=16.0)
    report = classifier.evaluate(images, labels, batch_size=16, verbose=0, return_dict=True)
    embeddings = classifier.predict(images, verbose=0)
    plain = keras.ops.convert_to_numpy(classifier.head(embeddings))
    margined = keras.ops.convert_to_numpy(classifier.head(embeddings, labels))
    assert report["accuracy"] == pytest.approx((plain.argmax(1) == labels).mean(), abs=1e-6)
    assert (margined.argmax(1) == labels).mean() < report["accuracy"]
    losses = np.log(np.exp(margined).sum(1)) - margined[np.arange(len(labels)), labels]
    assert report["loss"] == pytest.approx(losses.mean(), rel=1e-4)


@any_backend
def test_sample_weights_scale_the_losses():
    images, labels = faces(8)
    classifier = make()
    half = np.array([1.0, 0.0] * 4, "float32")
    weighted = classifier.evaluate(images, labels, sample_weight=half, verbose=0)[0]
    alone = classifier.evaluate(images[::2], labels[::2], verbose=0)[0]
    assert weighted == pytest.approx(alone / 2, rel=1e-5)


@any_backend
def test_a_saved_and_loaded_classifier_continues_with_the_same_losses(tmp_path):
    """With the state of head and optimiser: the annealing continues."""
    images, labels = faces()
    classifier = make(SphereFace, base=50.0, minimum=1.0)
    classifier.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    classifier.save(tmp_path / "run.keras")
    resumed = keras.models.load_model(tmp_path / "run.keras")
    assert int(keras.ops.convert_to_numpy(resumed.head.step)) == 10
    losses = [
        model.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"]
        for model in (classifier, resumed)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@any_backend
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_trains_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        classifier = make()
    finally:
        keras.config.set_dtype_policy("float32")
    assert classifier.head.compute_dtype == "float32"
    images, labels = faces()
    losses = classifier.fit(images, labels, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]


@any_backend
def test_wrong_use_is_refused_with_the_rule():
    images, labels = faces(8)
    with pytest.raises(ValueError, match=r"labels|class of each image"):
        make().fit(images, verbose=0)
    with pytest.raises(ValueError, match="head is the loss"):
        make().compile("sgd", loss="mse")
    backbone = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"`embedder`.*Received"):
        MarginClassifier(backbone, CosFace(CLASSES))
    assert len(labels) == 8


@any_backend
def test_compile_has_the_order_of_keras_and_refuses_a_loss():
    def order(method):
        return list(inspect.signature(method).parameters)

    ours, theirs = order(MarginClassifier.compile), order(keras.Model.compile)
    assert ours[:-1] == theirs[: len(ours) - 1]
    assert set(theirs) - set(ours) == {"auto_scale_loss"}  # in `**kwargs`
    for arguments in (("adam", "sparse_categorical_crossentropy"), ("adam", None, [1.0])):
        with pytest.raises(ValueError, match=r"head is the loss.*Received: loss="):
            make().compile(*arguments)
    classifier = make()
    classifier.compile("sgd", None, None, None, None, True)
    assert classifier.run_eagerly and not classifier.jit_compile


@any_backend
@pytest.mark.parametrize(
    ("given", "label"),
    [
        *(("arrays", CLASSES), ("arrays", -2), ("validation", -2), ("tf.data", CLASSES)),
        *(("PyDataset", -2), ("generator", CLASSES)),
    ],
)
def test_a_label_out_of_range_is_refused_in_one_sentence(given, label):
    """In the second of two batches."""
    images, labels = faces(8)
    labels[6] = label
    classifier, options = make(), {"verbose": 0}
    rule = rf"^`labels` must be in \[0, num_classes\).*num_classes=5. Received: .*{label}.*$"
    batches = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    if given == "arrays":
        data = (images, labels)
        with pytest.raises(ValueError, match=rule):
            classifier.evaluate(*data, **options)
        with pytest.raises(ValueError, match=rule):
            classifier.train_on_batch(*data)
        with pytest.raises(ValueError, match=rule):
            classifier.test_on_batch(*data)
    elif given == "validation":
        data = (images[:4], labels[:4])
        options["validation_data"] = (images, labels)
    elif given == "tf.data":
        tf = pytest.importorskip("tensorflow")
        data = (tf.data.Dataset.from_tensor_slices((images, labels)).batch(4),)
        with pytest.raises(ValueError, match=rule):
            classifier.evaluate(*data, **options)
        options["shuffle"] = False
    elif given == "PyDataset":
        data = (Batches(batches),)
    else:
        data = ((batch for batch in batches),)
        options |= {"steps_per_epoch": 2, "shuffle": False}
    with pytest.raises(ValueError, match=rule) as error:
        classifier.fit(*data, **options)
    assert "\n" not in str(error.value)
    assert np.isfinite(classifier.evaluate(*batches[0], verbose=0)).all()  # the weights remain


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@any_backend
def test_a_label_out_of_range_in_a_first_batch_keeps_all_weights():
    images, labels = faces(8)
    classifier = make()
    before = classifier.evaluate(images, labels, verbose=0)
    for method in (classifier.fit, classifier.evaluate):
        with pytest.raises(ValueError, match="counted from 0"):
            method(Batches([(images, labels + CLASSES)]), verbose=0)
        assert classifier.evaluate(images, labels, verbose=0) == pytest.approx(before, rel=1e-6)


@any_backend
@pytest.mark.parametrize(
    ("given", "low", "high"), [("arrays", 0, 1), ("tf.data", -1, 1), ("PyDataset", -2.1, 2.6)]
)
def test_scaled_images_warn_once(given, low, high):
    images, labels = faces(8)
    classifier, scaled = make(), low + images / 255 * (high - low)
    if given == "arrays":
        data = (scaled, labels)
    elif given == "tf.data":
        tf = pytest.importorskip("tensorflow")
        data = (tf.data.Dataset.from_tensor_slices((scaled, labels)).batch(4),)
    else:
        data = (Batches([(scaled[:4], labels[:4]), (scaled[4:], labels[4:])]),)
    with pytest.warns(UserWarning, match=r"RGB 0\.\.255.*Received: values from") as warned:
        classifier.fit(*data, epochs=2, shuffle=False, verbose=0)
    assert sum("look scaled" in str(each.message) for each in warned) == 1
    if given == "arrays":
        with pytest.warns(UserWarning, match="look scaled"):
            classifier.evaluate(*data, verbose=0)
        classifier.fit(images, labels, verbose=0)  # images in 0..255 do not warn


def test_streams_are_checked_on_two_replicas():
    import tensorflow as tf

    images, labels = faces(8)
    data = tf.data.Dataset.from_tensor_slices((images / 255, labels)).batch(4)
    with replicas(2).scope():
        classifier = make()
    with pytest.warns(UserWarning, match="look scaled"):
        classifier.fit(data, shuffle=False, verbose=0)
    labels[6] = CLASSES
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    with pytest.raises(ValueError, match=r"Received: .*5"):
        classifier.fit(data, shuffle=False, verbose=0)


@pytest.mark.parametrize("batch_size", [8, 7], ids=["even shares", "a remainder on one replica"])
def test_two_replicas_train_as_one_device(batch_size):
    """24 images: the replicas get 4 and 3 of a batch of 7; the last batch has 3."""
    import tensorflow as tf

    images, labels = faces(24)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
    if batch_size == 7:  # Keras cannot trace a *first* batch that does not divide
        data = (
            tf.data.Dataset.from_tensor_slices((images[:8], labels[:8])).batch(8).concatenate(data)
        )
    runs = []
    for count in (1, 2):
        with replicas(count).scope():
            classifier = make(SphereFace, base=50.0, minimum=1.0)
        classifier.fit(data, epochs=2, shuffle=False, verbose=0)
        runs.append(classifier)
    one, two = runs
    assert one.head.step.numpy() == two.head.step.numpy() == 2 * len(list(data))
    for first, second in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(
        one.predict(images, verbose=0), two.predict(images, verbose=0), rtol=2e-4, atol=2e-4
    )


def test_xla_equals_the_graph():
    images, labels = faces()
    losses = []
    for jit_compile in (False, True):
        classifier = make()
        classifier.compile(keras.optimizers.SGD(0.05, momentum=0.9), jit_compile=jit_compile)
        losses.append(classifier.fit(images, labels, shuffle=False, epochs=3, verbose=0))
    np.testing.assert_allclose(*(run.history["loss"] for run in losses), rtol=1e-4)


@any_backend
def test_samples_labelled_minus_one_count_in_neither_loss_nor_accuracy():
    images, labels = faces(8)
    ignored = labels.copy()
    ignored[::2] = -1
    classifier = make()
    some = classifier.evaluate(images, ignored, verbose=0)
    alone = classifier.evaluate(images[1::2], labels[1::2], verbose=0)
    np.testing.assert_allclose(some, alone, rtol=1e-5)


@any_backend
def test_every_labelled_sample_counts_once_in_any_batches():
    """One of the two batches has one labelled sample, the other four."""
    images, labels = faces(8)
    labels[1:4] = -1
    valid = labels >= 0
    classifier = make()
    together = classifier.evaluate(images, labels, batch_size=4, verbose=0)
    alone = classifier.evaluate(images[valid], labels[valid], verbose=0)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    halved = np.full(8, 0.5, "float32")
    weighted = classifier.evaluate(images, labels, 4, 0, halved)
    assert weighted[0] == pytest.approx(alone[0] / 2, rel=1e-5)


@any_backend
def test_an_epoch_without_labelled_samples_gives_nan():
    images, labels = faces(8)
    nothing = np.full(8, -1)
    classifier = make()
    assert np.isnan(classifier.evaluate(images, nothing, verbose=0)).all()
    history = classifier.fit(images, labels, validation_data=(images, nothing), verbose=0).history
    assert np.isnan(history["val_loss"]).all() and np.isnan(history["val_accuracy"]).all()
    assert np.isfinite(history["loss"]).all()
    # A first batch without a label ends no run.
    labels[:4] = -1
    ended = keras.callbacks.TerminateOnNaN()
    logs = classifier.fit(
        images, labels, batch_size=4, shuffle=False, verbose=0, callbacks=[ended]
    ).history
    assert np.isfinite(logs["loss"]).all() and not classifier.stop_training


@any_backend
def test_a_margin_head_continues_with_the_prototypes_of_a_softmax_head():
    images, labels = faces()
    keras.utils.set_random_seed(1)
    softmax = MarginClassifier(make_embedder(), NormFace(CLASSES, scale=16.0))
    softmax.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    softmax.fit(images, labels, batch_size=8, epochs=4, verbose=0)
    margin = softmax.with_head(ArcFace(CLASSES, margin=0.3, scale=16.0))
    margin.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    assert margin.embedder is softmax.embedder
    before, after = (m.evaluate(images, labels, verbose=0) for m in (softmax, margin))
    assert after[1] == before[1] > 0.9 and after[0] > before[0]
    losses = margin.fit(images, labels, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@any_backend
def test_a_head_over_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"shape \(6, 6\).*Received: .*\(5, 6\)"):
        make().with_head(CosFace(CLASSES + 1, scale=16.0))


@any_backend
def test_prototypes_are_copied_to_and_from_sub_centres():
    one, three = ArcFace(CLASSES), SubCenterArcFace(CLASSES)
    with pytest.raises(ValueError, match=r"before it is built.*SubCenterArcFace"):
        three.set_prototypes(np.ones((CLASSES, DIM)))
    for head in (one, three):
        head.build((None, DIM))
    before = keras.ops.convert_to_numpy(three.prototypes)
    three.set_prototypes(one.prototypes)
    taken = keras.ops.convert_to_numpy(three.prototypes)
    np.testing.assert_array_equal(taken[:, 0], keras.ops.convert_to_numpy(one.prototypes))
    np.testing.assert_array_equal(taken[:, 1:], before[:, 1:])
    back = ArcFace(CLASSES)
    back.build((None, DIM))
    back.set_prototypes(three.prototypes)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(back.prototypes), taken[:, 0])


def mean_directions(classifier, images, labels):
    """The imprinted prototypes, by a loop."""
    means = []
    for label in range(CLASSES):
        rows = classifier.predict(images[labels == label], verbose=0).astype("float64")
        mean = sum(row / np.linalg.norm(row) for row in rows)
        means.append(mean / np.linalg.norm(mean))
    return np.array(means)


class Stream(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return tuple(each[20 * index : 20 * index + 20] for each in self.arrays)


@any_backend
@pytest.mark.parametrize(
    "given",
    [
        lambda images, labels: (images, labels),
        lambda images, labels: ([(images[:30], labels[:30, None]), (images[30:], labels[30:])],),
        lambda images, labels: (Stream(images, labels),),
    ],
    ids=["arrays", "batches", "py_dataset"],
)
def test_imprinted_prototypes_are_the_mean_directions_of_the_classes(given):
    images, labels = faces()
    classifier = make()
    classifier.imprint(*given(images, labels))
    prototypes = keras.ops.convert_to_numpy(classifier.head.prototypes)
    np.testing.assert_allclose(prototypes, mean_directions(classifier, images, labels), atol=1e-5)


@any_backend
@pytest.mark.parametrize("head", [CosFace, SubCenterArcFace])
def test_classes_are_added_and_replaced_while_the_others_keep_their_prototypes(head):
    images, labels = faces()
    known = make(head)
    known.imprint(images, labels)
    before = keras.ops.convert_to_numpy(known.head.prototypes)
    larger = MarginClassifier(known.embedder, head(CLASSES + 2, scale=16.0))
    larger.head.set_prototypes(known.head.prototypes, classes=range(CLASSES))
    added = np.where(labels == 0, CLASSES + 1, np.where(labels == 1, 2, -1))
    larger.imprint(images, added)  # class 6 looks like 0, class 2 now like 1; 5 has no image
    after = keras.ops.convert_to_numpy(larger.head.prototypes)
    kept = [0, 1, 3, 4]
    np.testing.assert_array_equal(after[kept], before[kept])
    flat = (slice(None), 0) if after.ndim == 3 else slice(None)
    np.testing.assert_allclose(after[[6, 2]][flat], before[[0, 1]][flat], atol=1e-5)


def test_imprint_refuses_what_has_no_class():
    images, labels = faces()
    classifier = make()
    before = np.array(classifier.head.prototypes)
    for error, given in (
        (r"no image with a label", (images, np.full(40, -1))),
        (r"Each image needs a label. Received: 40 images and 39", (images, labels[1:])),
        (r"no labels. Pass \(images, labels\)", ([images],)),
        (r"[Ll]abels.*5", (images, labels + 1)),
    ):
        with pytest.raises(ValueError, match=error):
            classifier.imprint(*given)
    with pytest.raises(ValueError, match=r"different integers in 0..4. Received: classes=\[0, 0"):
        classifier.head.set_prototypes(before[:2], classes=[0, 0])
    with pytest.raises(ValueError, match=r"shape \(1, 6\).*\(2, 6\)"):
        classifier.head.set_prototypes(before[:2], classes=[0])
    np.testing.assert_array_equal(np.array(classifier.head.prototypes), before)


def test_a_ramp_moves_all_replicas():
    from keras_facemargin.callbacks import MarginRamp

    images, labels = faces(24)
    with replicas(2).scope():
        classifier = make()
    classifier.fit(
        images, labels, batch_size=8, epochs=1, verbose=0, callbacks=[MarginRamp(epochs=3)]
    )
    copies = replicas(2).experimental_local_results(classifier.head.margin_weight.value)
    assert [float(copy) for copy in copies] == pytest.approx([2 / 9, 2 / 9])
