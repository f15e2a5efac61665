"""Finding the classes of a family, and their string forms.

A rule or codec is one file with one frozen dataclass: the registry imports every
module of the package and collects the subclasses that have a `name`. The
string form is ``name`` or ``name:field=value,field=value``.
"""

import importlib
import pkgutil
from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar


class _Named(Protocol):
    name: ClassVar[str]


T = TypeVar("T", bound=_Named)


def discover(package: str, base: type[T]) -> dict[str, type[T]]:
    """Import all modules of `package`; return the subclasses with a name."""
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{info.name}")
    found: dict[str, type[T]] = {}
    pending = [base]
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if "name" in vars(cls) and cls.__module__.startswith(f"{package}."):
            found[cls.name] = cls
    return dict(sorted(found.items()))


def _value(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text


def parse(spec: str, known: dict[str, type[T]], what: str) -> T:
    """Build an object from its string form.

    Parameters
    ----------
    spec : str
        ``name`` or ``name:field=value,...``.
    known : dict of str to type
        The family, by name.
    what : str
        What the family is called in an error.

    Raises
    ------
    ValueError
        For an unknown name or field, or a value that the class refuses.
    """
    if not isinstance(spec, str):
        raise ValueError(
            f"bad {what} {spec!r}: give a string such as {next(iter(known))!r}, or an "
            f"object of lasg_flwr.{what}s"
        )
    name, _, tail = spec.strip().partition(":")
    if name not in known:
        raise ValueError(f"unknown {what} {spec!r}: choose one of {', '.join(known)}")
    cls = known[name]
    allowed = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        field, equals, value = part.partition("=")
        if field not in allowed or not equals:
            raise ValueError(
                f"bad option {part!r} of {what} {spec!r}: write field=value with a "
                f"field of {', '.join(allowed) or 'none (it takes no options)'}"
            )
        arguments[field] = _value(value)
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(f"bad {what} {spec!r}: {error}") from None


def spec_of(obj: _Named) -> str:
    """Return the string form of a dataclass object, defaults left out."""
    changed = [
        f"{f.name}={getattr(obj, f.name)}"
        for f in fields(obj)  # type: ignore[arg-type]
        if getattr(obj, f.name) != f.default
    ]
    return f"{obj.name}:{','.join(changed)}" if changed else str(obj.name)
