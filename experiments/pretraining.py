"""Weights to start from, where ImageNet's cannot be had: from a data set's other part.

The paper starts ResNet18 from weights trained on ImageNet, which has the classes of
Tiny ImageNet in it. Here a narrow ResNet18 is trained on classes that the federated
task does not have: a start that has seen less.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from .narrow_resnet import narrow_resnet18
from .networks import seeded_network

EPOCHS = 12
_BATCH, _PEAK, _MOMENTUM, _DECAY, _SMOOTHING, _SHIFT = 64, 0.2, 0.9, 5e-4, 0.1, 2


def pretrain(
    x: NDArray[np.uint8], y: NDArray[np.int64], classes: int, epochs: int = EPOCHS
) -> dict[str, Any]:
    """Train a narrow ResNet18, seed 0, and return its weights without the last layer.

    SGD with momentum, one cycle of the learning rate, images (n, 3, s, s) shifted by up
    to two pixels and mirrored. In one thread, so that the weights do not depend on how
    many there are. They are what `torch.nn.Module.load_state_dict` takes with
    ``strict=False``.
    """
    network = seeded_network(lambda: narrow_resnet18(classes), 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _train(network, torch.from_numpy(x), torch.from_numpy(y), epochs)
    finally:
        torch.set_num_threads(threads)
    last = _last_layer(network)
    return {k: v for k, v in network.state_dict().items() if k not in last}


def _train(network: nn.Module, images: Tensor, targets: Tensor, epochs: int) -> None:
    optimizer = SGD(
        network.parameters(), _PEAK, _MOMENTUM, weight_decay=_DECAY, nesterov=True
    )
    random = torch.Generator().manual_seed(0)
    steps = epochs * -(-len(images) // _BATCH)
    schedule = OneCycleLR(optimizer, _PEAK, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(images), generator=random), _BATCH):
            logits = network(_changed(images[batch], random))
            loss = cross_entropy(logits, targets[batch], label_smoothing=_SMOOTHING)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()


def _changed(images: Tensor, random: torch.Generator) -> Tensor:
    """Shift a minibatch by some pixels, and mirror every other one."""
    size = images.shape[-1]
    down, right = torch.randint(2 * _SHIFT + 1, (2,), generator=random).tolist()
    moved = pad(images, (_SHIFT,) * 4)[..., down : down + size, right : right + size]
    return moved.flip(-1) if torch.rand(1, generator=random) < 0.5 else moved


def start_from(network: nn.Module, weights: Mapping[str, Any]) -> None:
    """Give a network all weights but those of its last layer.

    Raises
    ------
    ValueError
        If `weights` has another network's names.
    """
    missing, unknown = network.load_state_dict(weights, strict=False)
    if unknown or set(missing) != _last_layer(network):
        raise ValueError(
            f"these are another network's weights: unknown {unknown}, missing {missing}"
        )


def _last_layer(network: nn.Module) -> set[str]:
    """Return the names of its weight and its bias."""
    return {name for name, _ in list(network.named_parameters())[-2:]}
