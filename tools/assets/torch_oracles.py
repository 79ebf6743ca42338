"""Published networks run by PyTorch's functions straight from the tensors of their files."""

import ast
import json

import numpy as np
import torch
import torch.nn.functional as F

_STRIDES = [2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1]  # of the 15 blocks


def _batch(crops, mean, std):
    pixels = (crops.astype("float32") - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def _norm(x, state, name, eps=1e-5):
    parts = [state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *parts, eps=eps)


def run_xiaoccer(path, crops):
    """xiaoccer's MobileFaceNet, (N, 112, 96, 3) -> (N, 128)."""
    s = torch.load(path, map_location="cpu", weights_only=True)["net_state_dict"]
    x = _batch(crops, 127.5, 128)

    def unit(x, name, stride=1, pad=0, groups=1, act=True):
        x = F.conv2d(x, s[f"{name}.conv.weight"], None, stride, pad, 1, groups)
        x = _norm(x, s, f"{name}.bn")
        return F.prelu(x, s[f"{name}.prelu.weight"]) if act else x

    x = unit(unit(x, "conv1", 2, 1), "dw_conv1", 1, 1, 64)
    for number, stride in enumerate(_STRIDES):
        name, before = f"blocks.{number}.conv", x
        x = _norm(F.conv2d(x, s[f"{name}.0.weight"]), s, f"{name}.1")
        x = F.prelu(x, s[f"{name}.2.weight"])
        x = F.conv2d(x, s[f"{name}.3.weight"], None, stride, 1, 1, x.shape[1])
        x = F.prelu(_norm(x, s, f"{name}.4"), s[f"{name}.5.weight"])
        x = _norm(F.conv2d(x, s[f"{name}.6.weight"]), s, f"{name}.7")
        if stride == 1 and x.shape == before.shape:
            x = x + before
    x = unit(unit(x, "conv2"), "linear7", groups=512, act=False)
    return unit(x, "linear1", act=False).flatten(1).numpy()


def run_foamliu(path, crops):
    """foamliu's MobileFaceNet, (N, 112, 112, 3) -> (N, 128)."""
    s = torch.load(path, map_location="cpu", weights_only=True)
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    x = _batch(crops, [255 * m for m in means], [255 * d for d in deviations])

    def depthwise(x, name, stride=1, pad=1):
        return F.conv2d(x, s[f"{name}.weight"], None, stride, pad, 1, x.shape[1])

    x = F.relu6(_norm(F.conv2d(x, s["conv1.0.weight"], None, 2, 1), s, "conv1.1"))
    x = F.relu(_norm(depthwise(x, "dw_conv.depthwise"), s, "dw_conv.bn1"))
    x = F.relu(_norm(F.conv2d(x, s["dw_conv.pointwise.weight"]), s, "dw_conv.bn2"))
    for number, stride in enumerate(_STRIDES):
        name, before = f"features.{number}.conv", x
        x = F.relu6(_norm(F.conv2d(x, s[f"{name}.0.0.weight"]), s, f"{name}.0.1"))
        x = F.relu6(_norm(depthwise(x, f"{name}.1.0", stride), s, f"{name}.1.1"))
        x = _norm(F.conv2d(x, s[f"{name}.2.weight"]), s, f"{name}.3")
        if stride == 1 and x.shape == before.shape:
            x = x + before
    x = F.relu6(_norm(F.conv2d(x, s["conv2.0.weight"]), s, "conv2.1"))
    x = _norm(depthwise(x, "gdconv.depthwise", 1, 0), s, "gdconv.bn")
    x = F.conv2d(x, s["conv3.weight"], s["conv3.bias"])
    return _norm(x, s, "bn").flatten(1).numpy()


@torch.no_grad()
def run_edgeface(state, crops):
    """EdgeFace-XS, timm's `edgenext_x_small`, (N, 112, 112, 3) -> (N, 512).

    `state` is the file as this package reads it: its 8-bit weights as numbers.
    """
    s = {name.removeprefix("model."): torch.tensor(value) for name, value in state.items()}

    def pair(name):
        return s[f"{name}.weight"], s[f"{name}.bias"]

    def norm(x, name):  # channels last
        return F.layer_norm(x, x.shape[-1:], *pair(name), eps=1e-6)

    def norm_map(x, name):
        return norm(x.permute(0, 2, 3, 1), name).permute(0, 3, 1, 2)

    def mlp(x, name):
        y = F.linear(norm(x.permute(0, 2, 3, 1), f"{name}.norm"), *pair(f"{name}.mlp.fc1"))
        y = F.linear(F.gelu(y), *pair(f"{name}.mlp.fc2")) * s[f"{name}.gamma"]
        return y.permute(0, 3, 1, 2)

    def depthwise(x, name):
        weight, bias = pair(name)
        return F.conv2d(x, weight, bias, 1, weight.shape[-1] // 2, 1, len(weight))

    def positions(name, height, width):
        """Rows, then columns, each as sin, cos, sin, cos ... with falling frequencies."""
        numbers = torch.zeros(64, height, width)
        for k in range(32):
            wave = torch.sin if k % 2 == 0 else torch.cos
            length = 10_000 ** (k // 2 * 2 / 32)
            for axis, side in ((0, height), (1, width)):
                places = (torch.arange(side) + 1) / (side + 1e-6) * 2 * torch.pi
                shape = (side, 1) if axis == 0 else (1, side)
                numbers[32 * axis + k] = wave(places / length).reshape(shape)
        return F.conv2d(numbers[None], *pair(f"{name}.token_projection"))

    def attention(x, name):  # (N, places, C)
        n, places, channels = x.shape
        q, k, v = F.linear(x, *pair(f"{name}.qkv")).reshape(n, places, 3, 4, -1).unbind(2)
        q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
        scores = torch.einsum("nphi,nphj->nhij", q, k) * s[f"{name}.temperature"]
        y = torch.einsum("nhij,nphj->nphi", scores.softmax(-1), v)
        return F.linear(y.reshape(n, places, channels), *pair(f"{name}.proj"))

    def split_block(x, name, groups):
        *convolved, last = x.chunk(groups, 1)
        found, y = [], 0
        for k, each in enumerate(convolved):
            y = depthwise(y + each, f"{name}.convs.{k}")
            found.append(y)
        y = torch.cat([*found, last], 1)
        if f"{name}.pos_embd.token_projection.weight" in s:
            y = y + positions(f"{name}.pos_embd", *y.shape[2:])
        tokens = y.flatten(2).transpose(1, 2)
        gamma = s[f"{name}.gamma_xca"]
        tokens = tokens + gamma * attention(norm(tokens, f"{name}.norm_xca"), f"{name}.xca")
        return x + mlp(tokens.transpose(1, 2).reshape(y.shape), name)

    x = norm_map(F.conv2d(_batch(crops, 127.5, 127.5), *pair("stem.0"), stride=4), "stem.1")
    for stage, (blocks, groups) in enumerate(((3, 0), (2, 2), (8, 3), (2, 4))):
        if stage:
            x = norm_map(x, f"stages.{stage}.downsample.0")
            x = F.conv2d(x, *pair(f"stages.{stage}.downsample.1"), stride=2)
        for block in range(blocks):
            name = f"stages.{stage}.blocks.{block}"
            x = x + mlp(depthwise(x, f"{name}.conv_dw"), name)
        if groups:
            x = split_block(x, f"stages.{stage}.blocks.{blocks}", groups)
    return F.linear(norm(x.mean((2, 3)), "head.norm"), *pair("head.fc")).numpy()


def run_mxnet(symbol, arrays, crops):
    """A walk over the nodes of an MXNet symbol; `arrays` by name."""
    nodes = json.loads(symbol.read_text())["nodes"]
    p = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    values = []
    for node in nodes:
        a = node.get("attrs", {})
        x = [values[entry[0]] for entry in node["inputs"]]
        match node["op"]:
            case "null":
                y = _batch(crops, 0, 1) if node["name"] == "data" else p[node["name"]]
            case "_minus_scalar":
                y = x[0] - float(a["scalar"])
            case "_mul_scalar":
                y = x[0] * float(a["scalar"])
            case "Convolution":
                y = F.conv2d(
                    *x,
                    stride=ast.literal_eval(a.get("stride", "(1, 1)")),
                    padding=ast.literal_eval(a.get("pad", "(0, 0)")),
                    groups=int(a.get("num_group", 1)),
                )
            case "BatchNorm":
                fixed = a.get("fix_gamma", "True") == "True"
                gamma = torch.ones_like(x[1]) if fixed else x[1]
                y = F.batch_norm(x[0], x[3], x[4], gamma, x[2], eps=float(a.get("eps", 1e-3)))
            case "LeakyReLU":
                y = F.prelu(x[0], x[1])
            case "elemwise_add":
                y = x[0] + x[1]
            case "FullyConnected":
                y = F.linear(x[0].flatten(1), x[1], x[2])
        values.append(y)
    return values[-1].numpy()
