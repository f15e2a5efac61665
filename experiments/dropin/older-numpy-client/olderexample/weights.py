"""A model's weights as the list of arrays that a NumPyClient exchanges."""

import torch
from flwr.common import NDArrays
from torch import nn


def get_weights(net: nn.Module) -> NDArrays:
    """Return the arrays of the model's state."""
    return [value.cpu().numpy() for value in net.state_dict().values()]


def set_weights(net: nn.Module, arrays: NDArrays) -> None:
    """Load arrays in the order of the model's state."""
    names = net.state_dict().keys()
    state = {n: torch.tensor(a) for n, a in zip(names, arrays, strict=True)}
    net.load_state_dict(state)
