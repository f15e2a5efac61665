"""The server's model: the arrays that a user knows, and the vector that is trained."""

from collections.abc import Iterable, Mapping
from logging import WARNING
from typing import Any

import numpy as np
from flwr.common import log
from numpy.typing import NDArray

from ..vectors import F32, Layout


class Model:
    """Layout, buffers and integer arrays of a model; θ itself lives in the server.

    Parameters
    ----------
    named : mapping of str to ndarray
        The model's arrays, by name.
    buffers : iterable of str, optional
        Names of floating arrays without gradient, see `Layout.of`.

    Attributes
    ----------
    layout : Layout
        Names, shapes, dtypes and kinds.
    theta : ndarray, shape (p,), float32
        θ^0.
    """

    def __init__(
        self, named: Mapping[str, NDArray[Any]], buffers: Iterable[str] | None = None
    ) -> None:
        self.layout = Layout.of(named, buffers)
        self.layout_json = self.layout.to_json()
        self.theta = self.layout.flatten(named, "parameter")
        self.buffers = self.layout.flatten(named, "buffer")
        self.integers = self.layout.integers(named)

    def packed(self, theta: F32) -> NDArray[np.uint8]:
        """Return the model with parameters `theta` as one packed array."""
        return self.layout.pack(theta, self.buffers, self.integers)

    def arrays(self, theta: F32) -> dict[str, NDArray[Any]]:
        """Return the model with parameters `theta` under its own names and dtypes."""
        return self.layout.unflatten(theta, self.buffers, self.integers)

    def warn_of_buffers(self) -> None:
        """Log that buffers keep their values: clients do not send theirs yet."""
        names = [e.name for e in self.layout.entries if e.kind == "buffer"]
        if names:
            log(
                WARNING,
                "lasg: %d buffers, such as %r, keep the values they start with; to "
                "train them like parameters pass buffers=()",
                len(names),
                names[0],
            )
