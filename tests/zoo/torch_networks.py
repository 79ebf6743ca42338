"""Published networks in PyTorch, from their layer lists and under their tensors' names.

Weights are random, with statistics of batch normalisation that are not 0 and 1: a converter that
ignores one of them gives another embedding.
"""

import torch
import torch.nn.functional as F
from torch import nn


def randomize(model, seed=0):
    """The model in eval mode with random scales, offsets, statistics and slopes."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.4)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            nn.init.normal_(module.weight, 0, fan**-0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def run(model, crops, mean=127.5, scale=127.5, order="RGB"):
    """The embeddings of crops (N, H, W, 3), RGB 0..255."""
    pixels = torch.from_numpy(crops.astype("float32")).permute(0, 3, 1, 2)
    pixels = pixels.flip(1) if order == "BGR" else pixels
    with torch.no_grad():
        return model((pixels - mean) / scale).numpy()


class Residual(nn.Module):
    """A unit of arcface_torch's IResNet."""

    def __init__(self, before, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        else:
            self.downsample = nn.Identity()

    def forward(self, x):
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        return self.bn3(y) + self.downsample(x)


class InsightFaceIResNet(nn.Module):
    def __init__(self, depths, dim):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        before = 64
        for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), 1):
            units = [
                Residual(before if u == 0 else width, width, 1 + (u == 0)) for u in range(depth)
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*units))
            before = width
        self.bn2 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(512 * 49, dim)
        self.features = nn.BatchNorm1d(dim)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = torch.flatten(self.bn2(x), 1)
        return self.features(self.fc(self.dropout(x)))


class AdaFaceUnit(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        if before == width:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


class AdaFace(nn.Module):
    def __init__(self, depths, dim):
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        units, before = [], 64
        for width, depth in zip((64, 128, 256, 512), depths, strict=True):
            for unit in range(depth):
                units.append(AdaFaceUnit(before, width, 2 if unit == 0 else 1))
                before = width
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 49, dim),
            nn.BatchNorm1d(dim, affine=False),
        )

    def forward(self, x):
        x = self.output_layer(self.body(self.input_layer(x)))
        return x / torch.norm(x, 2, 1, True)


class Unit(nn.Module):
    """facenet-pytorch's convolution, batch normalisation of epsilon 1e-3 and ReLU."""

    def __init__(self, before, width, size, stride=1, pad=0):
        super().__init__()
        self.conv = nn.Conv2d(before, width, size, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches beside each other; a residual unit if `scale` is given, else beside a pooling."""

    def __init__(self, branches, width=None, scale=None, relu=True):
        super().__init__()
        for number, branch in enumerate(branches):
            setattr(self, f"branch{number}", branch)
        self.count, self.scale, self.relu = len(branches), scale, relu
        if scale is not None:
            joined = sum(_width(branch) for branch in branches)
            self.conv2d = nn.Conv2d(joined, width, 1)

    def forward(self, x):
        ends = [getattr(self, f"branch{number}")(x) for number in range(self.count)]
        if self.scale is None:
            return torch.cat([*ends, F.max_pool2d(x, 3, 2)], 1)
        x = self.conv2d(torch.cat(ends, 1)) * self.scale + x
        return F.relu(x) if self.relu else x


def _width(branch):
    last = branch[-1] if isinstance(branch, nn.Sequential) else branch
    return last.conv.out_channels


def _a():
    return Mixed(
        [
            Unit(256, 32, 1),
            nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, 1, 1)),
            nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, 1, 1), Unit(32, 32, 3, 1, 1)),
        ],
        256,
        0.17,
    )


def _b():
    long = nn.Sequential(
        Unit(896, 128, 1), Unit(128, 128, (1, 7), 1, (0, 3)), Unit(128, 128, (7, 1), 1, (3, 0))
    )
    return Mixed([Unit(896, 128, 1), long], 896, 0.10)


def _c(scale=0.20, relu=True):
    long = nn.Sequential(
        Unit(1792, 192, 1), Unit(192, 192, (1, 3), 1, (0, 1)), Unit(192, 192, (3, 1), 1, (1, 0))
    )
    return Mixed([Unit(1792, 192, 1), long], 1792, scale, relu)


class FaceNet(nn.Module):
    """facenet-pytorch's InceptionResnetV1, with its classifier beside it."""

    def __init__(self):
        super().__init__()
        self.conv2d_1a = Unit(3, 32, 3, 2)
        self.conv2d_2a = Unit(32, 32, 3)
        self.conv2d_2b = Unit(32, 64, 3, 1, 1)
        self.conv2d_3b = Unit(64, 80, 1)
        self.conv2d_4a = Unit(80, 192, 3)
        self.conv2d_4b = Unit(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_a() for _ in range(5)))
        self.mixed_6a = Mixed(
            [
                Unit(256, 384, 3, 2),
                nn.Sequential(Unit(256, 192, 1), Unit(192, 192, 3, 1, 1), Unit(192, 256, 3, 2)),
            ]
        )
        self.repeat_2 = nn.Sequential(*(_b() for _ in range(10)))
        self.mixed_7a = Mixed(
            [
                nn.Sequential(Unit(896, 256, 1), Unit(256, 384, 3, 2)),
                nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, 2)),
                nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, 1, 1), Unit(256, 256, 3, 2)),
            ]
        )
        self.repeat_3 = nn.Sequential(*(_c() for _ in range(5)))
        self.block8 = _c(1.0, False)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)
        self.logits = nn.Linear(512, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))), 3, 2)
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x))))
        x = self.repeat_3(self.mixed_7a(self.repeat_2(self.mixed_6a(x))))
        x = F.adaptive_avg_pool2d(self.block8(x), 1)
        x = self.last_bn(self.last_linear(x.view(x.shape[0], -1)))
        return F.normalize(x, p=2, dim=1)


class SmallOfAll(nn.Module):
    """One of each operation that exporters write for mobile networks."""

    def __init__(self, dim=16):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.PReLU(16)
        )
        self.grouped = nn.Sequential(nn.Conv2d(16, 32, 3, 1, 1, groups=4), nn.ReLU6())
        self.depthwise = nn.Conv2d(32, 64, 3, 2, 1, groups=32)
        self.first = nn.BatchNorm2d(64)  # before a convolution: it stays in the graph
        self.wide = nn.Conv2d(64, 64, (1, 5), (1, 2), (0, 2), bias=False)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(64, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, 64, 1),
            nn.Hardsigmoid(),
        )
        self.one = nn.PReLU()  # one slope
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(128, 32, 1)
        self.fc = nn.Linear(32 * 14 * 7, dim)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x):
        x = self.grouped(self.stem(x))
        x = self.wide(self.first(self.depthwise(x)))
        x = x * self.squeeze(x)
        x = torch.cat([self.one(x), F.hardswish(x) * 0.5 - 1], 1)
        x = F.leaky_relu(self.last(self.pool(x)), 0.1)
        x = torch.flatten(torch.sigmoid(x) + torch.tanh(x), 1)
        return F.normalize(self.norm(self.fc(x)))


class LargeMobileFaceNet(nn.Module):
    """InsightFace's `get_mbf` with few units: a grouped stem, inverted residuals and GDC."""

    def __init__(self, dim=64):
        super().__init__()

        def conv(before, width, size=1, stride=1, pad=0, groups=1, act=True):
            parts = [
                nn.Conv2d(before, width, size, stride, pad, groups=groups, bias=False),
                nn.BatchNorm2d(width),
            ]
            return nn.Sequential(*parts, *([nn.PReLU(width)] if act else []))

        def unit(before, width, stride, middle):
            return nn.Sequential(
                conv(before, middle),
                conv(middle, middle, 3, stride, 1, middle),
                conv(middle, width, act=False),
            )

        self.stem = nn.Sequential(conv(3, 128, 3, 2, 1), conv(128, 128, 3, 1, 1, 64))
        self.down = nn.ModuleList([unit(128, 128, 2, 128), unit(128, 256, 2, 256)])
        self.same = nn.ModuleList([unit(128, 128, 1, 128), unit(256, 256, 1, 256)])
        self.end = nn.Sequential(unit(256, 256, 2, 512), conv(256, 512))
        self.gdc = nn.Sequential(
            conv(512, 512, 7, 1, 0, 512, False),
            nn.Flatten(),
            nn.Linear(512, dim, bias=False),
            nn.BatchNorm1d(dim),
        )

    def forward(self, x):
        x = self.stem(x)
        for down, same in zip(self.down, self.same, strict=True):
            x = down(x)
            x = x + same(x)
        return self.gdc(self.end(x))
