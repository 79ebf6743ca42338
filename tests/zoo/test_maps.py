"""Checkpoints in the published names, with random weights, against their PyTorch networks."""

import h5py
import keras
import numpy as np
import pytest
from inference import infer
from published_files import card_of, rule

from keras_facemargin.zoo import load_card
from keras_facemargin.zoo.convert import convert
from keras_facemargin.zoo.parity import cosine

pytestmark = pytest.mark.any_backend
torch = pytest.importorskip("torch", reason="writes the checkpoints")
networks = pytest.importorskip("torch_networks")
# Networks of a hundred layers are the same code for all backends, and half a minute to compile for
# jax; the small networks run on each.
LARGE = () if keras.backend.backend() == "tensorflow" else (pytest.mark.slow,)


def large(test):
    """Marks a test of such a network."""
    for mark in LARGE:
        test = mark(test)
    return test


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
        load_card("facenet_vggface2"),
        {"scale": 128.0},
    ),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(c, marks=LARGE if c == "inception_resnet_facenet" else ()) for c in CASES],
)
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
    found = infer(model, crops.astype("float32"))
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


# FaceNet in Keras' older `.h5` form, in the names of the TensorFlow graph.

STEPS = {
    "Block35": (["1x1"], ["0a_1x1", "0b_3x3"], ["0a_1x1", "0b_3x3", "0c_3x3"]),
    "Mixed_6a": (["1a_3x3"], ["0a_1x1", "0b_3x3", "1a_3x3"]),
    "Block17": (["1x1"], ["0a_1x1", "0b_1x7", "0c_7x1"]),
    "Mixed_7a": (["0a_1x1", "1a_3x3"], ["0a_1x1", "1a_3x3"], ["0a_1x1", "0b_3x3", "1a_3x3"]),
    "Block8": (["1x1"], ["0a_1x1", "0b_1x3", "0c_3x1"]),
}
KERAS_FACENET = load_card("facenet_casia")


def keras_facenet_layers(model):
    """Weights by keras-facenet's layer names, from the network of PyTorch."""
    layers = {}

    def unit(name, module):
        layers[name] = [module.conv.weight.permute(2, 3, 1, 0)]
        layers[f"{name}_BatchNorm"] = [
            module.bn.bias,
            module.bn.running_mean,
            module.bn.running_var,
        ]

    def block(name, module):
        for number, steps in enumerate(STEPS[name if name in STEPS else name.split("_")[0]]):
            branch = getattr(module, f"branch{number}")
            units = [branch] if hasattr(branch, "conv") else list(branch)
            for step, each in zip(steps, units, strict=True):
                unit(f"{name}_Branch_{number}_Conv2d_{step}", each)
        if hasattr(module, "conv2d"):
            up = module.conv2d
            layers[f"{name}_Conv2d_1x1"] = [up.weight.permute(2, 3, 1, 0), up.bias]

    for name in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3", "4b_3x3"):
        unit(f"Conv2d_{name}", getattr(model, f"conv2d_{name[:2]}"))
    for name, modules in (
        ("Block35", model.repeat_1),
        ("Block17", model.repeat_2),
        ("Block8", [*model.repeat_3, model.block8]),
    ):
        for number, module in enumerate(modules, 1):
            block(f"{name}_{number}", module)
    block("Mixed_6a", model.mixed_6a)
    block("Mixed_7a", model.mixed_7a)
    layers["Bottleneck"] = [model.last_linear.weight.T]
    last = model.last_bn
    layers["Bottleneck_BatchNorm"] = [last.bias, last.running_mean, last.running_var]
    return {name: [each.detach().numpy() for each in weights] for name, weights in layers.items()}


@large
def test_keras_facenets_file_embeds_as_the_network_of_pytorch(tmp_path):
    original = networks.randomize(networks.FaceNet())
    for module in original.modules():
        if hasattr(module, "running_mean"):
            torch.nn.init.constant_(module.weight, 1)  # the file has no scale
    layers = keras_facenet_layers(original)
    write_h5(tmp_path / "a.h5", layers)
    model = convert(tmp_path / "a.h5", KERAS_FACENET)
    crops = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3)).astype("uint8")
    wanted = networks.run(original, crops, scale=128.0)
    assert min(map(cosine, infer(model, crops.astype("f4")), wanted)) > 0.999999

    write_h5(tmp_path / "b.h5", layers | {"Logits": [np.zeros((512, 3), "f4")]})
    with pytest.raises(ValueError, match=r"must belong to the network\. Received: Logits"):
        convert(tmp_path / "b.h5", KERAS_FACENET)
    del layers["Block8_6_Branch_0_Conv2d_1x1"]
    write_h5(tmp_path / "b.h5", layers)
    with pytest.raises(ValueError, match="hold the layer 'Block8_6_Branch_0_Conv2d_1x1'"):
        convert(tmp_path / "b.h5", KERAS_FACENET)


# EdgeFace.

EDGEFACE = card_of("edgeface_xs", 512, rule(127.5, 127.5))


def edgeface_state():
    """timm's names of `edgenext_x_small` with random weights."""
    rng, state = np.random.default_rng(0), {}

    def add(name, *shape, mean=0.0, spread=None):
        fan = np.prod(shape[1:]) if len(shape) > 1 else 100
        values = rng.normal(mean, spread or fan**-0.5, shape).astype("f4")
        state[f"model.{name}"] = torch.from_numpy(values)

    def layer(name, units, *sides):
        add(f"{name}.weight", units, *sides)
        add(f"{name}.bias", units)

    def norm(name, channels):
        add(f"{name}.weight", channels, mean=1.0)
        add(f"{name}.bias", channels)

    def end(name, channels):
        norm(f"{name}.norm", channels)
        layer(f"{name}.mlp.fc1", 4 * channels, channels)
        layer(f"{name}.mlp.fc2", channels, 4 * channels)
        add(f"{name}.gamma", channels)

    layer("stem.0", 32, 3, 4, 4)
    norm("stem.1", 32)
    before = 32
    for stage, (channels, size, blocks, widths) in enumerate(
        ((32, 3, 3, []), (64, 5, 2, [32]), (100, 7, 8, [34, 34]), (192, 9, 2, [48, 48, 48]))
    ):
        if stage:
            norm(f"stages.{stage}.downsample.0", before)
            layer(f"stages.{stage}.downsample.1", channels, before, 2, 2)
        for block in range(blocks):
            layer(f"stages.{stage}.blocks.{block}.conv_dw", channels, 1, size, size)
            end(f"stages.{stage}.blocks.{block}", channels)
        if widths:
            name = f"stages.{stage}.blocks.{blocks}"
            for number, width in enumerate(widths):
                layer(f"{name}.convs.{number}", width, 1, 3, 3)
            if stage == 1:
                layer(f"{name}.pos_embd.token_projection", channels, 64, 1, 1)
            norm(f"{name}.norm_xca", channels)
            add(f"{name}.gamma_xca", channels)
            layer(f"{name}.xca.qkv", 3 * channels, channels)
            layer(f"{name}.xca.proj", channels, channels)
            add(f"{name}.xca.temperature", 4, 1, 1, mean=2.0)
            end(name, channels)
        before = channels
    norm("head.norm", 192)
    layer("head.fc", 512, 192)
    return state


@large
def test_edgeface_embeds_as_the_network_of_pytorch(tmp_path):
    oracles = pytest.importorskip("torch_oracles")
    state = edgeface_state()
    torch.save(state, tmp_path / "a.pt")
    model = convert(tmp_path / "a.pt", EDGEFACE)
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype("uint8")
    wanted = oracles.run_edgeface({name: each.numpy() for name, each in state.items()}, crops)
    assert min(map(cosine, infer(model, crops.astype("f4")), wanted)) > 0.999999
    torch.save(state | {"model.extra": torch.zeros(3)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"Received: 1 others, extra"):
        convert(tmp_path / "a.pt", EDGEFACE)


# GhostFaceNet, whose file names layers by their numbers.


def write_ghostfacenet(file):
    """An .h5 file in the authors' names with random weights; returns the weights by our names."""
    model = ghostfacenet()
    rng, weights = np.random.default_rng(0), {}
    for layer in model.layers:
        shapes = [each.shape for each in layer.weights]
        weights[layer.name] = [rng.uniform(0.2, 1, shape).astype("f4") for shape in shapes]
    unit = ["expand_primary", "expand_cheap", "depthwise", "squeeze_down", "squeeze_up"]
    unit += ["project_primary", "project_cheap", "shortcut_depthwise", "shortcut"]
    names = ["stem", *(f"unit{k}_{part}" for k in range(1, 17) for part in unit), "last"]
    numbers, theirs = {}, {}
    for name in names:
        for ours in (name, f"{name}_bn", f"{name}_prelu"):
            if weights.get(ours):
                kind = type(model.get_layer(ours)).__name__
                number = numbers[kind] = numbers.get(kind, -1) + 1
                theirs[f"{kind.lower()}_{number}" if number else kind.lower()] = weights[ours]
    neck = {"GDC_dw": "neck_depthwise", "GDC_batchnorm": "neck_depthwise_bn"}
    neck |= {"pre_embedding": "embedding"}
    theirs |= {name: weights[ours] for name, ours in neck.items()}
    theirs["GDC_conv"] = [weights["neck_linear"][0][None, None]]
    write_h5(file, theirs)
    return weights


def write_h5(file, layers):
    """A file of weights in Keras' older form."""
    with h5py.File(file, "w") as archive:
        order = sorted(layers)  # the file's order does not matter
        archive.attrs["layer_names"] = [name.encode() for name in order]
        for name in order:
            group = archive.create_group(name)
            parts = {f"{name}/w{k}:0": value for k, value in enumerate(layers[name])}
            group.attrs["weight_names"] = [part.encode() for part in parts]
            for part, value in parts.items():
                group[part] = value


def ghostfacenet():
    from keras_facemargin.backbones import GhostFaceNetV1
    from keras_facemargin.backbones.necks import NECKS

    backbone = GhostFaceNetV1(width=0.5, strides=2)
    return keras.Model(backbone.input, NECKS["gdc"](backbone.output, 32, 0.0))


GHOST = card_of(
    "ghostfacenet",
    32,
    rule(127.5, 128.0),
    network=network("GhostFaceNetV1", "gdc", 32, width=0.5, strides=2),
)


def test_layers_of_ghostfacenet_are_found_by_their_numbers(tmp_path):
    weights = write_ghostfacenet(tmp_path / "a.h5")
    model = convert(tmp_path / "a.h5", GHOST)
    for layer in model.layers:
        for found, wanted in zip(layer.get_weights(), weights[layer.name], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_ghostfacenet_with_a_layer_too_many_is_refused(tmp_path):
    write_ghostfacenet(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as archive:
        archive.attrs["layer_names"] = [*(name.encode() for name in archive), b"conv2d_99"]
        group = archive.create_group("conv2d_99")
        group.attrs["weight_names"] = [b"w"]
        group["w"] = np.zeros((1, 1, 3, 2), "f4")
    with pytest.raises(ValueError, match=r"must hold \d+ layers Conv2D\. Received: \d+"):
        convert(tmp_path / "a.h5", GHOST)
