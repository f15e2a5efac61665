"""The server's model: the arrays that a user knows, and the vector that is trained."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import LasgConfig
from ..layout import Layout
from ..protocol import LasgServer
from ..protocol.buffers import BufferMean
from ..protocol.versions import Form
from ..vectors import finite_vector
from .statistics import batch_norm_statistics, positive_vectors


class Model:
    """Layout and integer arrays of a model; θ and buffers live in the server.

    Parameters
    ----------
    named : mapping of str to ndarray
        The model's arrays, by name.
    buffers : iterable of str, optional
        Names of floating arrays without gradient, see `Layout.of`; left out, and with
        names that are positions alone, see `batch_norm_statistics`.

    Attributes
    ----------
    layout : Layout
        Names, shapes, dtypes and kinds.
    theta : ndarray, shape (p,), float32
        θ^0.
    buffers : ndarray, shape (B,), float32
        The buffers' first values.
    """

    def __init__(
        self, named: Mapping[str, NDArray[Any]], buffers: Iterable[str] | None = None
    ) -> None:
        if buffers is None and all(name.isdecimal() for name in named):
            buffers = batch_norm_statistics(list(named.values()))
        self.layout = Layout.of(named, buffers)
        self._positive = positive_vectors(named, self.layout)
        self.layout_json = self.layout.to_json()
        self.theta = self.layout.flatten(named, "parameter")
        self.buffers = self.layout.flatten(named, "buffer")
        self.integers = self.layout.integers(named)

    @property
    def form(self) -> Form:
        """What is not trained."""
        return Form(self.layout_json, self.integers)

    def server(self, config: LasgConfig) -> LasgServer:
        """Return a new server for this model."""
        return LasgServer(
            self.theta,
            config,
            buffers=self.buffers,
            form=self.form,
        )

    def replace(self, server: LasgServer, named: Mapping[str, NDArray[Any]]) -> None:
        """Make other arrays of this model the server's, between two rounds.

        What workers uploaded stays; the threshold does not count this step.

        Raises
        ------
        ValueError
            If they are not of this model, or not finite.
        """
        server.check_between_rounds("replace the model")
        theta = self.layout.flatten(named, "parameter")
        buffers = BufferMean(self.layout.flatten(named, "buffer"))
        server.theta = finite_vector(theta, "theta", 1)
        server.buffer_mean = buffers
        self.integers = self.layout.integers(named)
        server.broadcast.start_anew(server.theta, server.buffers, self.form)

    def turned_negative(self, server: LasgServer) -> list[str]:
        """Return the vectors that began above zero and have a value below it now.

        A variance among the parameters would be one; each name is returned once.
        """
        found = [
            name
            for name, place in self._positive.items()
            if server.theta[place].min() < 0
        ]
        for name in found:
            del self._positive[name]
        return found

    def packed(self, server: LasgServer) -> NDArray[np.uint8]:
        """Return the model that workers are meant to hold, as one packed array."""
        sent = server.broadcast
        return self.layout.pack(sent.theta, sent.buffers, self.integers)

    def arrays(self, server: LasgServer) -> dict[str, NDArray[Any]]:
        """Return the server's model under its own names and dtypes."""
        return self.layout.unflatten(server.theta, server.buffers, self.integers)


def named_by_position(arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays without names under ``"0"``, ``"1"`` and so on."""
    return {str(i): array for i, array in enumerate(arrays)}
