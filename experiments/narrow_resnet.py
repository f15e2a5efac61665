"""ResNet18 with fewer channels, for what can be trained on a CPU within minutes."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from .networks import Pixels

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """ResNet18's basic block: relu(x' + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(before, width, stride)
        self.second = _convolution(width, width, 1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, before, s, s) to (b, width, s / stride, s / stride)."""
        return relu(self.second(relu(self.first(x))) + self.shortcut(x))


def narrow_resnet18(classes: int, width: int = 16) -> nn.Module:
    """Return ResNet18 with `width` channels in its first stage, where it has 64.

    The stem is ImageNet's 7 x 7 convolution of stride 2 without the max-pooling, as
    `experiments.networks` has it for 32-pixel images; with width 16 it has 0.7 million
    parameters instead of 11.2 million.
    """
    stages: list[nn.Module] = []
    before = width
    for stage in range(4):
        wide, stride = width << stage, 1 if stage == 0 else 2
        stages += [Block(before, wide, stride), Block(wide, wide, 1)]
        before = wide
    network = nn.Sequential(
        Pixels(_MEAN, _STD),
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(before, classes),
    )
    return network.to(memory_format=torch.channels_last)


def _convolution(before: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
    )
