"""Published files against their own runtimes, on real crops."""

import keras
import numpy as np
import pytest
from inference import infer
from published_files import (
    DLIB,
    PUBLISHED,
    card_of,
    find_file,
    published_card,
    real_crops,
    rule,
)

from keras_facemargin.heads import CosFace
from keras_facemargin.zoo import convert as converting
from keras_facemargin.zoo import (
    copy_weights,
    find_weights,
    load_card,
    load_embedder,
    write_card,
)
from keras_facemargin.zoo.convert import convert, read_state
from keras_facemargin.zoo.parity import cosine, embed_crop, golden_crop, place, run_original
from keras_facemargin.zoo.readers import mxnet

# All numbers: the published parameters (999,936 for foamliu, 999,552 for xiaoccer, 5,614,592 for
# dlib) and the moving statistics of every batch normalisation, two a channel. Where an exporter
# folded it, one bias a channel replaces its scale and offset. EdgeFace has 2,242,620, of which the
# scales of its branches are folded, and the temperatures and the positions are constants.
PARAMETERS = {
    "foamliu_MobileFaceNet.onnx": 999_936 - 9_856 - 128,
    "foamliu_mobilefacenet.pt": 999_936 + 2 * 9_856,
    "xiaoccer_mobilefacenet_068.ckpt": 999_552 + 2 * 9_792,
    "edgeface_xs_q.pt": 2_242_620 - 2_120 - 12 - 65 * 64,
    "visassist_mobilefacenet.tflite": 1_292_992 - 64 * 513,
    "insightface_model-y1-test2_model-0000.params": 1_022_720,
    DLIB: 5_614_592 + 2 * 3_552,
    "MobileFaceNet.tflite": 1_292_992,
}


@pytest.fixture(scope="module")
def opened(shared_data):
    """name -> the converted model; each is converted once."""
    models = {}

    def get(name):
        if name not in models:
            models[name] = convert(find_file(name, shared_data), published_card(name))
        return models[name]

    return get


@pytest.fixture(scope="module")
def crops(shared_data):
    return real_crops(shared_data)


def original(name, shared_data, crops, card):
    """The original's embeddings of 112x112 crops by its own runtime, or by PyTorch's functions."""
    file = find_file(name, shared_data)
    placed = [place(crop, card.crop) for crop in crops]
    if card.converter in ("onnx", "tflite"):
        return np.stack([run_original(file, card, crop) for crop in placed])
    oracles = pytest.importorskip("torch_oracles", reason="needs torch")
    if card.converter == "mxnet":
        symbol = file.with_name(file.name.replace("-0000.params", "-symbol.json"))
        return oracles.run_mxnet(symbol, mxnet.read_params(file), np.stack(placed))
    if card.converter == "edgeface_xs":
        return oracles.run_edgeface(read_state(file), np.stack(placed))
    run = oracles.run_foamliu if "foamliu" in name else oracles.run_xiaoccer
    return run(file, np.stack(placed))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != DLIB])
def test_a_converted_file_embeds_real_crops_as_its_own_runtime(name, shared_data, opened, crops):
    model, card = opened(name), published_card(name)
    wanted = original(name, shared_data, crops, card)
    batch = np.stack([place(crop, card.crop) for crop in crops]).astype("float32")
    found = infer(model, batch)
    assert min(map(cosine, found, wanted)) > 0.999999
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_number_of_parameters_is_the_published_one(name, opened):
    assert opened(name).count_params() == PARAMETERS[name]


def test_dlibs_network_embeds_as_dlib(opened):
    """The card's golden embedding was computed by dlib itself."""
    model, golden = opened(DLIB), load_card("dlib_resnet").golden
    assert golden.runtime.startswith("dlib ")
    crop = golden_crop(golden.crop, published_card(DLIB).crop)
    assert cosine(embed_crop(model, crop), golden.embedding) > 0.999999


def test_dlibs_network_trains_from_its_own_function(opened, shared_data):
    model, card = opened(DLIB), published_card(DLIB)
    crops = real_crops(shared_data, 32)
    batch = np.stack([place(crop, card.crop) for crop in crops]).astype("float32")
    weights = model.get_weights()
    inference = keras.ops.convert_to_numpy(model(batch, training=False))
    training = keras.ops.convert_to_numpy(model(batch, training=True))
    model.set_weights(weights)  # the call moved the statistics
    found = list(map(cosine, inference, training))
    assert min(found) > 0.96  # without the statistics 0.88; the batch has its own ones
    assert np.mean(found) > 0.98


@pytest.mark.parametrize(
    "name", ["foamliu_mobilefacenet.pt", "edgeface_xs_q.pt", "visassist_mobilefacenet.tflite", DLIB]
)
def test_a_converted_model_opens_with_keras_alone(name, opened, tmp_path, crops):
    model, card = opened(name), published_card(name)
    model.save(tmp_path / "model.keras")
    reopened = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    batch = np.stack([place(crop, card.crop) for crop in crops[:2]]).astype("float32")
    found = [infer(each, batch) for each in (model, reopened)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["foamliu_MobileFaceNet.onnx", "xiaoccer_mobilefacenet_068.ckpt"])
def test_a_converted_model_trains(name, opened, crops):
    import keras_facemargin

    model, card = opened(name), published_card(name)
    kept = model.get_weights()
    classifier = keras_facemargin.MarginClassifier(model, CosFace(2))
    classifier.compile(keras.optimizers.SGD(1e-3))
    batch = np.stack([place(crop, card.crop) for crop in crops[:4]]).astype("float32")
    history = classifier.fit(batch, np.array([0, 0, 1, 1]), batch_size=4, epochs=1, verbose=0)
    trained = model.get_weights()
    model.set_weights(kept)
    assert np.isfinite(history.history["loss"]).all()
    first = next(i for i, w in enumerate(kept) if w.ndim == 4)
    assert not np.array_equal(kept[first], trained[first])


@pytest.mark.parametrize(
    "name",
    [
        "foamliu_mobilefacenet.pt",  # a filled backbone
        pytest.param("MobileFaceNet.tflite", marks=pytest.mark.slow),  # a rebuilt graph
    ],
)
def test_a_converted_model_exports(name, opened, crops, tmp_path):
    from keras_facemargin.export import export_onnx, export_tflite

    model, card = opened(name), published_card(name)
    for write, ending in ((export_onnx, "onnx"), (export_tflite, "tflite")):
        write(model, tmp_path / f"model.{ending}", images=crops)
        exported = card_of(ending, card.embedding_dim, None, crop={**published_crop(card)})
        found = run_original(tmp_path / f"model.{ending}", exported, crops[0])
        assert cosine(found, embed_crop(model, crops[0])) > 0.9999


def published_crop(card):
    crop = card.input.crop
    return {"height": crop.height, "width": crop.width, "template": crop.template}


def test_a_card_without_a_known_converter_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Received: 'caffe'\. Known converters: onnx"):
        convert(tmp_path / "a", card_of("caffe", 128, None))


def test_a_network_of_another_size_than_its_card_is_refused(shared_data):
    name = "visassist_mobilefacenet.tflite"
    card = card_of("tflite", 192, rule(127.5, 128.0))
    with pytest.raises(ValueError, match=r"to \(None, 192\), as the card 'a-tflite' states"):
        convert(find_file(name, shared_data), card)


def test_a_file_of_another_network_is_refused(shared_data):
    card = published_card("foamliu_mobilefacenet.pt")
    with pytest.raises(ValueError, match=r"with a tensor 'conv1\.0\.weight'"):
        convert(find_file("xiaoccer_mobilefacenet_068.ckpt", shared_data), card)


def test_the_pixel_rule_of_a_card_must_be_that_of_its_backbone(monkeypatch, tmp_path):
    network = {
        "kind": "backbone",
        "backbone": "IResNet",
        "arguments": {"depths": [1, 1, 1, 1]},
        "neck": "fc",
        "embedding_dim": 16,
    }
    card = card_of("iresnet_insightface", 16, rule(127.5, 128.0), network=network)
    monkeypatch.setattr(converting, "read_state", lambda _: {})
    with pytest.raises(ValueError, match=r"mean \[127\.5, .* and scale \[127\.5"):
        convert(tmp_path / "a", card)


def test_a_copied_mxnet_model_has_its_graph(shared_data, tmp_path):
    name = "insightface_model-y1-test2_model-0000.params"
    card, file = find_weights(shared_data / "weights" / name)
    write_card(tmp_path / "copy" / "card.json", copy_weights(card, file, tmp_path / "copy"))
    assert load_embedder(tmp_path / "copy").count_params() == PARAMETERS[name]
