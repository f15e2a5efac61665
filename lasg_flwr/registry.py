"""Families of variants (rules, codecs, steps), their names and their string forms.

A variant is one file with one frozen dataclass that has a `name`. Those of this package
are found in their folder; one from outside is made known with `register`, and then
works wherever its string form is understood: ``name`` or ``name:field=value,...``.
"""

import importlib
import pkgutil
from dataclasses import fields
from difflib import get_close_matches
from inspect import isabstract
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class _Named(Protocol):
    name: ClassVar[str]


T = TypeVar("T", bound=_Named)
C = TypeVar("C", bound=type[Any])


class Registry(Generic[T]):
    """The variants of one family, by name.

    Parameters
    ----------
    what : str
        What the family is called in an error, such as ``"rule"``.
    base : type
        What its members derive from.

    Attributes
    ----------
    classes : dict of str to type
        The members.
    """

    def __init__(self, what: str, base: type[T]) -> None:
        self.what = what
        self.base = base
        self.classes: dict[str, type[T]] = {}
        _families.append(self)

    def discover(self, package: str) -> None:
        """Import all modules of a package, and add the members defined in them."""
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if not info.ispkg:
                importlib.import_module(f"{package}.{info.name}")
        pending: list[type[T]] = [self.base]
        found = {}
        while pending:
            cls = pending.pop()
            pending.extend(cls.__subclasses__())
            if "name" in vars(cls) and cls.__module__.startswith(f"{package}."):
                found[cls.name] = cls
        self.classes.update(sorted(found.items()))

    def add(self, cls: type[T]) -> None:
        """Add a member from outside this package.

        Raises
        ------
        ValueError
            If it has no name, its name is taken, or something of it is missing.
        """
        name = vars(cls).get("name")
        if not isinstance(name, str) or not name or set(name) & set(":;,= "):
            raise ValueError(
                f"{cls.__name__} has the name {name!r}: give the class a short "
                f'`name: ClassVar[str] = "my-{self.what}"`'
            )
        if isabstract(cls):
            missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            raise ValueError(f"{cls.__name__} lacks {missing}")
        taken = self.classes.get(name)
        if taken is not None and taken is not cls:
            raise ValueError(
                f"the {self.what} {name!r} is {taken.__qualname__} already: choose "
                "another name"
            )
        cls.check_registration(self.classes)  # type: ignore[attr-defined]
        self.classes[name] = cls

    def parse(self, spec: Any) -> T:
        """Build an object from its string form, or return one as it is.

        Parameters
        ----------
        spec : str or object of the family
            ``name`` or ``name:field=value,...``.

        Raises
        ------
        ValueError
            For an unknown name or field, or a value that the class refuses.
        """
        if isinstance(spec, self.base):
            return spec
        if not isinstance(spec, str):
            raise ValueError(self._not_a_string(spec))
        name, _, tail = spec.strip().partition(":")
        if name not in self.classes:
            raise ValueError(f"unknown {self.what} {spec!r}: {self._advice(name)}")
        cls = self.classes[name]
        arguments = self._arguments(cls, spec, tail)
        try:
            return cls(**arguments)
        except TypeError as error:
            raise ValueError(f"bad {self.what} {spec!r}: {error}") from None

    def _arguments(self, cls: type[T], spec: str, tail: str) -> dict[str, Any]:
        allowed = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        arguments: dict[str, Any] = {}
        for part in filter(None, tail.split(",")):
            field, equals, value = part.partition("=")
            if field not in allowed or not equals:
                raise ValueError(
                    f"bad option {part!r} of {self.what} {spec!r}: write field=value "
                    f"with a field of {', '.join(allowed) or 'none (it takes none)'}"
                )
            arguments[field] = _value(value)
        return arguments

    def _not_a_string(self, spec: Any) -> str:
        if isinstance(spec, type) and issubclass(spec, self.base):
            return (
                f"bad {self.what} {spec.__name__}: that is the class; pass an object, "
                f"{spec.__name__}(), or the string {spec.name!r}"
            )
        return (
            f"bad {self.what} {spec!r}: give a string such as "
            f"{next(iter(self.classes))!r}, or an object of lasg_flwr.{self.what}s"
        )

    def _advice(self, name: str) -> str:
        known = ", ".join(self.classes)
        plain = name.lower().removeprefix("lasg-").removeprefix("laqsg-")
        close = get_close_matches(plain, self.classes, 1, 0.75)
        meant = f"did you mean {close[0]!r}? " if close else ""
        return f"{meant}choose one of {known}"


_families: list[Registry[Any]] = []


def register(cls: C) -> C:
    """Make a rule, codec or server step from outside this package known by its name.

    Its string form then works wherever those of this package do, in strategies, on
    devices that registered it too, and in checkpoints. Usable as a decorator, and
    harmless when done twice.

    Parameters
    ----------
    cls : type
        A frozen dataclass that derives from `lasg_flwr.rules.WorkerRule` or
        `ServerRule`, `lasg_flwr.codecs.Codec`, or `lasg_flwr.optim.ServerStep`. A
        codec has a wire `tag` from 128 to 255.

    Returns
    -------
    type
        `cls`.

    Raises
    ------
    TypeError
        If it belongs to none of these families.
    ValueError
        If its name or tag is taken or out of range, or it is not complete.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from lasg_flwr.rules import WK2, rule_from
    >>> @register
    ... @dataclass(frozen=True)
    ... class Eager(WK2):
    ...     name = "eager-for-a-doctest"
    >>> rule_from("eager-for-a-doctest:c=2").c
    2.0
    """
    for family in _families:
        if isinstance(cls, type) and issubclass(cls, family.base):
            family.add(cls)
            return cls
    raise TypeError(
        f"{cls!r} is neither a rule, a codec nor a server step: derive it from "
        "lasg_flwr.rules.WorkerRule or ServerRule, lasg_flwr.codecs.Codec, or "
        "lasg_flwr.optim.ServerStep"
    )


def _value(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text


def spec_of(obj: _Named) -> str:
    """Return the string form of a dataclass object, defaults left out."""
    changed = [
        f"{f.name}={getattr(obj, f.name)}"
        for f in fields(obj)  # type: ignore[arg-type]
        if getattr(obj, f.name) != f.default
    ]
    return f"{obj.name}:{','.join(changed)}" if changed else str(obj.name)
