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
