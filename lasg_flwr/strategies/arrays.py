"""The model's arrays as users see them: made once a round, and honoured if changed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from ..flower import records
from ..protocol import LasgServer
from .model import Model


class CurrentArrays:
    """The record of the server's model, made anew only when θ or buffers moved.

    A strategy hands it out after a round and gets an ArrayRecord back for the next one:
    a subclass or a loop of the user's own may have changed that one in between.
    """

    def __init__(self) -> None:
        self._of: tuple[Any, Any] | None = None
        self._record = ArrayRecord()

    def record(self, server: LasgServer, model: Model) -> ArrayRecord:
        """Return the arrays of θ^k, under their own names and dtypes."""
        parts = (server.theta, server.buffers)
        if self._of is None or any(
            a is not b for a, b in zip(parts, self._of, strict=True)
        ):
            self._of = parts
            self._record = records.named_arrays(model.arrays(server))
        return ArrayRecord(dict(self._record))

    def take_up(self, server: LasgServer, model: Model, given: ArrayRecord) -> bool:
        """Make `given` the server's model if it is another; return whether it was.

        Raises
        ------
        ValueError
            If the arrays are not of this model, or not finite.
        """
        if not self.differs(server, model, given):
            return False
        model.replace(server, numpy_arrays(given))
        return True

    def differs(self, server: LasgServer, model: Model, given: ArrayRecord) -> bool:
        """Return whether `given` holds other values than the server's model."""
        current = self.record(server, model)
        if len(given) != len(current):
            return True
        return any(
            name not in given
            or (array.data != given[name].data and _differ(array, given[name]))
            for name, array in current.items()
        )


def _differ(first: Any, second: Any) -> bool:
    return not _equal(first.numpy(), second.numpy())


def _equal(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.dtype == second.dtype and bool(np.array_equal(first, second))


def numpy_arrays(record: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a record as NumPy's, by name."""
    return {name: array.numpy() for name, array in record.items()}
