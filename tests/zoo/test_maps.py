"""Checkpoints in the published names, with random weights, against their PyTorch networks."""

import numpy as np
import pytest
from published_files import card_of, rule

from keras_facemargin.zoo.convert import convert
from keras_facemargin.zoo.parity import cosine

torch = pytest.importorskip("torch", reason="writes the checkpoints")
networks = pytest.importorskip("torch_networks")

SQUARE = {"height": 160, "width": 160, "template": None}


def network(backbone, neck, dim, **arguments):
    return {
        "kind": "backbone",
        "backbone": backbone,
        "arguments": arguments,
        "neck": neck,
        "embedding_dim": dim,
    }


CASES = {
    "iresnet_insightface": (
        lambda: networks.InsightFaceIResNet((2, 1, 1, 1), 32),
        card_of(
            "iresnet_insightface",
            32,
            rule(127.5, 127.5),
            network=network("IResNet", "fc", 32, depths=[2, 1, 1, 1]),
        ),
        {},
    ),
    "iresnet_adaface": (
        lambda: networks.AdaFace((2, 1, 1, 1), 32),
        card_of(
            "iresnet_adaface",
            32,
            rule(127.5, 127.5),
            order="BGR",
            network=network("IResNet", "fc", 32, depths=[2, 1, 1, 1], first_shortcut="pooling"),
        ),
        {"order": "BGR"},
    ),
    "inception_resnet_facenet": (
        lambda: networks.FaceNet(),
        card_of(
            "inception_resnet_facenet",
            512,
            rule(127.5, 128.0),
            crop=SQUARE,
            network=network("InceptionResNetV1", "gap", 512),
        ),
        {"scale": 128.0},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(card, network of PyTorch, checkpoint, arguments of `run`)."""
    make, card, options = CASES[request.param]
    model = networks.randomize(make())
    if request.param == "iresnet_insightface":
        torch.nn.init.constant_(model.features.weight, 1)  # as published
    file = tmp_path_factory.mktemp("checkpoint") / "backbone.pth"
    torch.save(model.state_dict(), file)
    return card, model, file, options


def test_a_filled_backbone_embeds_as_the_network_of_pytorch(case):
    card, original, file, options = case
    model = convert(file, card)
    crops = np.random.default_rng(0).integers(0, 256, (2, *card.crop.shape, 3)).astype("uint8")
    wanted = networks.run(original, crops, **options)
    found = model.predict(crops.astype("float32"), verbose=0)
    assert min(map(cosine, found, wanted)) > 0.999999


def test_a_tensor_that_no_layer_takes_is_refused(case, tmp_path):
    card, original, _, _ = case
    state = original.state_dict() | {"extra.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"Received: 1 others, extra\.weight"):
        convert(tmp_path / "a.pth", card)


def test_a_missing_tensor_and_a_wrong_shape_are_refused(tmp_path):
    make, card, _ = CASES["iresnet_insightface"]
    state = make().state_dict()
    for change, message in (
        (lambda s: s.pop("layer1.0.bn1.bias"), r"hold the tensor 'layer1\.0\.bn1\.bias'"),
        (lambda s: s.update({"fc.bias": torch.zeros(31)}), "The file belongs to a network of ano"),
        (lambda s: s["features.weight"].fill_(2), r"The scale features\.weight must be 1"),
    ):
        changed = {name: value.clone() for name, value in state.items()}
        change(changed)
        torch.save(changed, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=message):
            convert(tmp_path / "a.pth", card)


def test_names_below_a_prefix_are_found(tmp_path):
    make, card, _ = CASES["iresnet_insightface"]
    state = {f"module.{name}": value for name, value in make().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", card).output_shape == (None, 32)
