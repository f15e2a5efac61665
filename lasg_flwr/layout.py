"""Named arrays <-> one flat vector and its layout.

Parameters, buffers (BatchNorm statistics) and integer arrays are kept apart:
only parameters have gradients and form θ; buffers travel as values; integer arrays
stay at the server's value. All three travel together as one packed array:

    θ as little-endian float32 | buffers as float32 | integer arrays as raw bytes
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .checks import json_value
from .errors import LasgError, WireError
from .vectors import F32, frozen

ArrayKind = Literal["parameter", "buffer", "integer"]

BUFFER_NAMES = re.compile(
    r"((running|moving)_(mean|var|variance)|(mean|var)_ema\W(average|hidden)"
    r"|(^|\W)batch_stats\W(.*\W)?(mean|var)\W*)(:\d+)?$"
)
"""Names of floating arrays that are BatchNorm's statistics.

PyTorch's end in ``running_mean`` and ``running_var``, Keras's in ``moving_mean`` and
``moving_variance``, perhaps with a ``:0``; Flax keeps ``mean`` and ``var`` below
``batch_stats``, Haiku averages below ``mean_ema`` and ``var_ema``.
"""

_MAX_ENTRIES = 100_000


@dataclass(frozen=True)
class Entry:
    """One named array: its shape, dtype and kind."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: ArrayKind

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def packed_bytes(self) -> int:
        """Bytes that this array takes in the packed model."""
        width = np.dtype(self.dtype).itemsize if self.kind == "integer" else 4
        return self.size * width


def _kind(name: str, array: NDArray[Any], buffers: frozenset[str] | None) -> ArrayKind:
    if array.dtype.kind in "iub":
        return "integer"
    if array.dtype.kind != "f":
        raise ValueError(
            f"array {name!r} has dtype {array.dtype}: only floating, integer and "
            "boolean arrays can be part of a model; convert it first"
        )
    if buffers is None:
        return "buffer" if BUFFER_NAMES.search(name) else "parameter"
    return "buffer" if name in buffers else "parameter"


@dataclass(frozen=True)
class Layout:
    """Names, shapes, dtypes and kinds of a model's arrays, in order."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(
        cls, arrays: Mapping[str, NDArray[Any]], buffers: Iterable[str] | None = None
    ) -> "Layout":
        """Describe `arrays`.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            The model.
        buffers : iterable of str, optional
            Names of floating arrays that have no gradient. Left out, those that
            `BUFFER_NAMES` fits are buffers.

        Raises
        ------
        ValueError
            If the model has no floating parameter or an array of another dtype, or
            no array of a name in `buffers`.
        """
        names = None if buffers is None else frozenset(buffers)
        if names is not None and not names <= arrays.keys():
            raise ValueError(
                f"buffers names {sorted(names - arrays.keys())}, the model's arrays "
                f"are {list(arrays)}"
            )
        layout = cls(
            tuple(
                Entry(n, tuple(a.shape), a.dtype.str, _kind(n, a, names))
                for n, a in arrays.items()
            )
        )
        if layout.size == 0:
            raise ValueError(
                f"the model {list(arrays)!r} holds no floating-point parameters: "
                "there is nothing to train"
            )
        return layout

    def check_same(self, client: "Layout") -> None:
        """Check that a client's model is this one, as far as its arrays tell.

        Their places, shapes and kinds are compared, and the places of names that both
        have: names of one side alone, such as positions, say nothing.

        Raises
        ------
        LasgError
            If it is another model, or has its arrays in another order.
        """
        kinds = {e.name: e.kind for e in client.entries}
        for e in self.entries:
            if kinds.get(e.name, e.kind) != e.kind:
                raise LasgError(
                    f"array {e.name!r} is a {e.kind} to the server and a "
                    f"{kinds[e.name]} to this client: name all arrays without gradient "
                    "in the strategy's buffers=[...]; TorchOracle has them as "
                    "buffer_names"
                )
        both = {e.name for e in self.entries} & kinds.keys()
        for kind in ("parameter", "buffer"):
            pairs = zip_longest(
                (e for e in self.entries if e.kind == kind),
                (e for e in client.entries if e.kind == kind),
            )
            for mine, other in pairs:
                if mine is None or other is None or not _alike(mine, other, both):
                    raise LasgError(
                        "the client has another model, or its arrays in another order: "
                        f"a {kind} is {_shown(mine)} to the server and "
                        f"{_shown(other)} here; build the same model on both sides"
                    )

    @cached_property
    def size(self) -> int:
        """Length p of θ."""
        return sum(e.size for e in self.entries if e.kind == "parameter")

    @cached_property
    def buffer_size(self) -> int:
        """Number of buffer values."""
        return sum(e.size for e in self.entries if e.kind == "buffer")

    @cached_property
    def packed_bytes(self) -> int:
        """Length of the packed model."""
        return sum(e.packed_bytes for e in self.entries)

    def flatten(self, arrays: Mapping[str, NDArray[Any]], kind: ArrayKind) -> F32:
        """Concatenate all arrays of one floating `kind` into a float32 vector."""
        parts = [self._checked(arrays, e) for e in self.entries if e.kind == kind]
        if not parts:
            return np.zeros(0, np.float32)
        return np.concatenate([np.asarray(p, np.float32).ravel() for p in parts])

    def integers(self, arrays: Mapping[str, NDArray[Any]]) -> bytes:
        """Return the raw bytes of all integer arrays."""
        parts = [self._checked(arrays, e) for e in self.entries if e.kind == "integer"]
        return b"".join(np.ascontiguousarray(p).tobytes() for p in parts)

    def pack(self, theta: F32, buffers: F32, integers: bytes) -> NDArray[np.uint8]:
        """Pack one model into one array of bytes.

        Examples
        --------
        >>> layout = Layout.of({"w": np.ones((2, 2)), "n": np.arange(3)})
        >>> packed = layout.pack(np.ones(4, "f4"), np.zeros(0, "f4"), bytes(24))
        >>> packed.nbytes == layout.packed_bytes == 4 * 4 + 3 * 8
        True
        """
        if theta.size != self.size or buffers.size != self.buffer_size:
            raise ValueError(
                f"theta has {theta.size} and the buffers {buffers.size} elements; the "
                f"layout has {self.size} and {self.buffer_size}"
            )
        raw = [np.ascontiguousarray(x, "<f4").view(np.uint8) for x in (theta, buffers)]
        if not buffers.size and not integers:
            return frozen(raw[0][:])
        return frozen(np.concatenate([*raw, np.frombuffer(integers, np.uint8)]))

    def split(self, packed: NDArray[np.uint8]) -> tuple[F32, F32, bytes]:
        """Undo `pack`: return θ, buffers and integer bytes, as read-only views."""
        if packed.dtype != np.uint8 or packed.shape != (self.packed_bytes,):
            raise WireError(
                f"a packed model of shape {packed.shape} and dtype {packed.dtype} does "
                f"not fit its layout of {self.packed_bytes} bytes"
            )
        raw = packed.data if packed.flags.c_contiguous else packed.tobytes()
        floats = np.frombuffer(raw, "<f4", self.size + self.buffer_size)
        floats.flags.writeable = False
        return (
            floats[: self.size],
            floats[self.size :],
            bytes(raw[floats.nbytes :]),
        )

    def unflatten(
        self, theta: F32, buffers: F32, integers: bytes
    ) -> dict[str, NDArray[Any]]:
        """Return the named arrays, with their own shapes and dtypes."""
        raw = {"parameter": theta, "buffer": buffers}
        position = {"parameter": 0, "buffer": 0, "integer": 0}
        arrays = {}
        for e in self.entries:
            at = position[e.kind]
            if e.kind == "integer":
                flat = np.frombuffer(integers, e.dtype, e.size, at).copy()
                position[e.kind] += e.packed_bytes
            else:
                flat = raw[e.kind][at : at + e.size].astype(e.dtype)
                position[e.kind] += e.size
            arrays[e.name] = flat.reshape(e.shape)
        return arrays

    def to_json(self) -> str:
        """Return the layout as compact JSON, as it travels in a request."""
        rows = [[e.name, list(e.shape), e.dtype, e.kind] for e in self.entries]
        return json.dumps(rows, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Read a layout that a peer sent.

        Raises
        ------
        WireError
            If the text is not a layout.
        """
        try:
            rows = json_value(text)
            if not isinstance(rows, list) or len(rows) > _MAX_ENTRIES:
                raise ValueError("not a list of arrays, or too many")
            return cls(tuple(_entry(*row) for row in rows))
        except (ValueError, TypeError) as error:
            raise WireError(f"not a model layout: {error}") from None

    def _checked(self, arrays: Mapping[str, NDArray[Any]], e: Entry) -> NDArray[Any]:
        array = np.asarray(arrays[e.name]) if e.name in arrays else None
        if array is None or array.shape != e.shape:
            found = "nothing" if array is None else f"shape {array.shape}"
            raise ValueError(
                f"array {e.name!r}: expected shape {e.shape}, found {found}; pass the "
                "arrays of the same model"
            )
        return array.astype(e.dtype, copy=False)


def _alike(a: Entry, b: Entry, both: set[str]) -> bool:
    same_name = a.name == b.name or not {a.name, b.name} & both
    return same_name and a.shape == b.shape


def _shown(entry: Entry | None) -> str:
    return "missing" if entry is None else f"{entry.name!r} of shape {entry.shape}"


def _entry(name: Any, shape: Any, dtype: Any, kind: Any) -> Entry:
    if not isinstance(name, str) or kind not in ("parameter", "buffer", "integer"):
        raise ValueError(f"bad name or kind: {name!r}, {kind!r}")
    if not isinstance(shape, list) or not all(
        isinstance(n, int) and 0 <= n < 2**40 for n in shape
    ):
        raise ValueError(f"bad shape of {name!r}: {shape!r}")
    if np.dtype(dtype).kind not in ("iub" if kind == "integer" else "f"):
        raise ValueError(f"bad dtype of {name!r}: {dtype!r}")
    return Entry(name, tuple(shape), str(dtype), kind)
