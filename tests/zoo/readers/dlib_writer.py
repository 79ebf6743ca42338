"""Writes small networks in dlib's serialisation, for tests."""

import numpy as np


def integer(value):
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def real(value):
    mantissa, exponent = np.frexp(value)
    return integer(int(mantissa * 2**24)) + integer(int(exponent) - 24)


def text(value):
    return integer(len(value)) + value.encode()


def shape(version, sizes):
    return integer(version) + b"".join(map(integer, sizes))


def tensor(values):
    values = np.asarray(values, "<f4")
    full = (*values.shape, *(1 for _ in range(4 - values.ndim)))
    return shape(2, full) + values.tobytes()


EMPTY = shape(2, (0, 0, 0, 0))
CLEAN = b"000" + 3 * EMPTY  # three truths, and no gradients


def convolution(kernel, bias, stride, padding):
    sizes = [kernel.shape[0], *kernel.shape[2:], stride, stride, padding, padding]
    return (
        text("con_4")
        + tensor(np.concatenate([kernel.ravel(), bias]))
        + b"".join(map(integer, sizes))
        + shape(1, kernel.shape)
        + shape(1, (1, len(bias), 1, 1))
        + 4 * real(1.0)
    )


def affine(gamma, beta):
    sizes = (1, len(gamma), 1, 1)
    return (
        text("affine_")
        + tensor(np.concatenate([gamma, beta]))
        + shape(1, sizes)
        + shape(1, sizes)
        + integer(0)
    )


def pooling(kind, size, stride):
    return text(kind) + b"".join(map(integer, (size, size, stride, stride, 0, 0)))


def linear(weights):
    return (
        text("fc_2")
        + integer(weights.shape[1])
        + integer(weights.shape[0])
        + tensor(weights)
        + shape(1, (*weights.shape, 1, 1))
        + shape(1, (0, 0, 0, 0))
        + integer(1)
        + 4 * real(1.0)
    )


def small_network(seed=0, size=14):
    """The bytes, and the weights by name: a residual block that halves, and one that does not.

    Image -> convolution -> ReLU -> [convolution of stride 2 + pooled shortcut with more channels]
    -> ReLU -> [convolution + shortcut] -> pooling -> linear layer.
    """
    rng = np.random.default_rng(seed)
    draw = lambda *sides: rng.normal(size=sides).astype("f4") / np.sqrt(np.prod(sides[1:]))  # noqa: E731
    w = {
        "first": (draw(4, 3, 3, 3), draw(4)),
        "gamma": (1 + draw(4), draw(4)),
        "halve": (draw(6, 4, 3, 3), draw(6)),
        "same": (draw(6, 6, 3, 3), draw(6)),
        "linear": draw(6, 5),
    }
    relu, add = text("relu_") + CLEAN, text("add_prev_") + CLEAN
    layers = [  # from the image upward: (version, bytes)
        (3, convolution(*w["first"], 1, 1) + CLEAN + integer(1)),
        (2, affine(*w["gamma"]) + CLEAN),
        (2, relu),
        (1, b""),  # tag 1
        (2, convolution(*w["halve"], 2, 0) + CLEAN),
        (1, b""),  # tag 2
        (1, b""),  # skip 1
        (2, pooling("avg_pool_2", 2, 2) + CLEAN),
        (2, add),
        (2, relu),
        (1, b""),  # tag 1
        (2, convolution(*w["same"], 1, 1) + CLEAN),
        (2, add),
        (2, pooling("avg_pool_2", 0, 1) + CLEAN),
        (2, linear(w["linear"]) + CLEAN),
    ]
    versions = b"".join(integer(version) for version, _ in reversed(layers))
    head = integer(1) + text("loss_metric_") + real(0.04) + real(0.6) + versions
    image = text("input_rgb_image_sized") + b"".join(map(real, (120.0, 117.0, 104.0)))
    image += integer(size) + integer(size)
    return head + image + b"".join(data for _, data in layers), w


def run(w, image):
    """The same network in NumPy: (size, size, 3) -> (5,)."""
    x = (image.astype("f8") - [120, 117, 104]) / 256
    x = np.maximum(_convolve(x, *w["first"], 1, 1) * w["gamma"][0] + w["gamma"][1], 0)
    branch = _convolve(x, *w["halve"], 2, 0)
    rows, columns = x.shape[0] // 2, x.shape[1] // 2
    pooled = x[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).mean((1, 3))
    total = np.zeros((rows, columns, 6))
    total[: branch.shape[0], : branch.shape[1]] += branch
    total[..., :4] += pooled
    x = np.maximum(total, 0)
    x = x + _convolve(x, *w["same"], 1, 1)
    return x.mean((0, 1)) @ w["linear"]


def _convolve(x, kernel, bias, stride, padding):
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))
    return np.einsum("rcikl,oikl->rco", windows[::stride, ::stride], kernel) + bias
