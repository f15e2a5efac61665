"""The networks of the experiments, by the data set they are for."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

CHARACTERS_HIDDEN = 96
_RESNET18_FILE = "resnet18-f37072fd.pth"


class Pixels(nn.Module):
    """Bytes (b, c, s, s) -> floats: ``(pixel / 255 - mean) / std``, channels last."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Scale the pixels."""
        x = x.float().div_(255).contiguous(memory_format=torch.channels_last)
        if set(self.mean) == {0.0} and set(self.std) == {1.0}:
            return x
        mean, std = (x.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (x - mean) / std


def mnist_network() -> nn.Module:
    """Two convolution-ELU-max-pooling layers, two fully connected; 21,840 parameters.

    Section IV-B of the paper; it gives no widths, so these are 10 and 20 channels of
    5 x 5 and 50 hidden units. Pixels are divided by 255 and not centred. Pooling comes
    before ELU: as ELU is monotone that is the same function, with a quarter of its
    exponentials, which were a quarter of a gradient's time.
    """
    network = nn.Sequential(
        Pixels((0.0,), (1.0,)),
        nn.Conv2d(1, 10, 5),
        nn.MaxPool2d(2),
        nn.ELU(),
        nn.Conv2d(10, 20, 5),
        nn.MaxPool2d(2),
        nn.ELU(),
        nn.Flatten(),
        nn.Linear(320, 50),
        nn.ELU(),
        nn.Linear(50, 10),
    )
    # a tenth faster on a CPU than the default format
    return network.to(memory_format=torch.channels_last)


class Characters(nn.Module):
    """Predicts each next character: embedding, GRU, linear layer."""

    def __init__(self, characters: int, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.gru = nn.GRU(width, CHARACTERS_HIDDEN, batch_first=True)
        self.output = nn.Linear(CHARACTERS_HIDDEN, characters)

    def forward(self, x: Tensor) -> Tensor:
        """Map codes (b, t) to logits (b, characters, t)."""
        hidden, _ = self.gru(self.embedding(x))
        logits: Tensor = self.output(hidden)
        return logits.transpose(1, 2)


def tiny_imagenet_network(classes: int, pixels: int) -> tuple[nn.Module, str]:
    """Return ResNet18 for `classes`, and a line that says how it was made.

    The last layer is new. For 32-pixel images the first max-pooling is left out, so
    that the last feature map has 2 x 2 elements and not one. All else is pretrained
    on ImageNet if torchvision's weights are in PyTorch's cache; they are never
    downloaded here.
    """
    from torchvision.models import resnet18

    network: nn.Module = resnet18()
    file = Path(torch.hub.get_dir()) / "checkpoints" / _RESNET18_FILE
    if file.is_file():
        network.load_state_dict(torch.load(file, weights_only=True))
        made = "ResNet18, pretrained on ImageNet"
    else:
        made = f"ResNet18 from scratch: {file.name} is not in PyTorch's cache"
    network.fc = nn.Linear(512, classes)
    if pixels == 32:
        network.maxpool = nn.Identity()
        made += "; without the first max-pooling, for 32-pixel images"
    scale = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return nn.Sequential(scale, network), made


def seeded_network(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a network whose initial weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()
