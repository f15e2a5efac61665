"""Trees of plain values <-> arrays and JSON, whoever defined their types.

A state is a tree of NamedTuples, dataclasses, dicts, lists, tuples, arrays, bytes and
plain scalars. Its fields are found by themselves, so a rule, memory or step from
anywhere is saved without being named here; only the types of the values that belong to
a variant must be told (`Hints`).

Examples
--------
>>> from typing import NamedTuple
>>> class Point(NamedTuple):
...     x: float
...     name: bytes
>>> packer = Packer()
>>> node = packer.pack(Point(0.5, b"a"))
>>> Unpacker(packer.arrays, {}).unpack(node, Point)
Point(x=0.5, name=b'a')
"""

import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..vectors import frozen
from . import files

SHORT = 64
"""Bytes up to this length stand in the metadata; longer ones are arrays."""

Hints = Mapping[tuple[type, str], Any]


class Packer:
    """Turns values into JSON-ready ones; an array that occurs twice is stored once.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The arrays met so far; one that may still change is copied.
    """

    def __init__(self) -> None:
        self.arrays: files.Arrays = {}
        self._known: dict[int, tuple[str, Any]] = {}

    def pack(self, value: Any, name: str = "") -> Any:
        """Return a JSON-ready value; its arrays go to `arrays`, named by their place.

        Parameters
        ----------
        value : object
            What to pack.
        name : str, optional
            Its place in the tree.

        Raises
        ------
        TypeError
            If it is of a type that cannot be saved.
        """
        if isinstance(value, np.ndarray):
            return {"array": self._array(value, name)}
        if isinstance(value, bytes) and len(value) <= SHORT:
            return {"hex": value.hex()}
        if isinstance(value, bytes):
            return {"bytes": self._array(np.frombuffer(value, np.uint8), name)}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Mapping):
            pairs = [[self.pack(k), self._inner(v, name, k)] for k, v in value.items()]
            return {"pairs": pairs}
        if names := _field_names(value):
            inner = {n: self._inner(getattr(value, n), name, n) for n in names}
            return {"fields": inner}
        if isinstance(value, list | tuple):
            return [self._inner(item, name, i) for i, item in enumerate(value)]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(
            f"{name or 'a state'} is a {type(value).__name__}: only arrays, numbers, "
            "strings, bytes, None, and tuples, dicts or NamedTuples of these can be "
            "saved"
        )

    def _inner(self, value: Any, name: str, step: Any) -> Any:
        return self.pack(value, f"{name}.{step}" if name else str(step))

    def _array(self, array: Any, name: str) -> str:
        """Store an array; one that may still change is copied."""
        known = self._known.get(id(array))
        if known is None:
            self._known[id(array)] = (name, array)  # kept alive: ids stay unique
            self.arrays[name] = array.copy() if array.flags.writeable else array
            return name
        return known[0]


def _field_names(value: Any) -> tuple[str, ...]:
    """Return the names of a NamedTuple's or dataclass object's fields; else none."""
    if is_dataclass(value):
        return tuple(field.name for field in fields(value))
    return tuple(getattr(value, "_fields", ()))


class Unpacker:
    """Undoes `Packer`, guided by annotations and the types of the run's variants."""

    def __init__(self, arrays: files.Arrays, hints: Hints) -> None:
        self._arrays, self._hints = arrays, hints

    def unpack(self, node: Any, hint: Any) -> Any:
        """Return the value of a node, by its annotation."""
        if isinstance(node, list):
            return self._sequence(node, hint)
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind == "array":
            return frozen(self._arrays[content])
        if kind == "hex":
            return bytes.fromhex(content)
        if kind == "bytes":
            return self._arrays[content].tobytes()
        if kind == "fields":
            return self._fields(content, _class_in(hint))
        cls, arguments = _container(hint, dict)
        key, value = (*arguments, Any, Any)[:2]
        pairs = {self.unpack(k, key): self.unpack(v, value) for k, v in content}
        return cls(pairs) if cls is Counter else pairs

    def _sequence(self, node: list[Any], hint: Any) -> Any:
        cls, arguments = _container(hint, list)
        if cls is tuple and Ellipsis not in arguments:
            inner = [*arguments, *[Any] * len(node)]
        else:
            inner = [arguments[0] if arguments else Any] * len(node)
        items = [self.unpack(item, h) for item, h in zip(node, inner, strict=False)]
        return tuple(items) if cls is tuple else items

    def _fields(self, content: dict[str, Any], cls: type[Any] | None) -> Any:
        if cls is None:
            raise ValueError(f"no type known for a state with fields {list(content)}")
        known = _annotations(cls)  # type: ignore[arg-type]
        hints = {n: self._hints.get((cls, n), known.get(n, Any)) for n in content}
        return cls(**{n: self.unpack(v, hints[n]) for n, v in content.items()})


@lru_cache(maxsize=64)
def _annotations(cls: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError:  # annotations of a class that was made inside a function
        return {}


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _class_in(hint: Any) -> type[Any] | None:
    """Return the NamedTuple or dataclass that a hint names, if any."""
    for choice in _choices(hint):
        cls = get_origin(choice) or choice
        if isinstance(cls, type) and (hasattr(cls, "_fields") or is_dataclass(cls)):
            return cls
    return None


def _container(hint: Any, kind: type[Any]) -> tuple[type[Any], tuple[Any, ...]]:
    """Return the dict, list or tuple type that a hint names, and its arguments."""
    for choice in _choices(hint):
        cls = get_origin(choice) or choice
        if isinstance(cls, type) and issubclass(cls, (kind, tuple, Mapping)):
            return cls, get_args(choice)
    return kind, ()
