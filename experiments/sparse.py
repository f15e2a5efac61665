"""What `sparse-local-sgd` takes on the command line: k by device, growing batches."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from lasg_flwr.cycle import cycle_from

METHOD = "sparse-local-sgd"
DEFAULT_TOP_K = (0.01,)
"""What is kept where neither k nor another codec is named."""


def parse_top_k(text: str) -> tuple[int | float, ...]:
    """Read ``--top-k``: what each device keeps, cycled over the devices.

    Parameters
    ----------
    text : str
        Numbers between commas; below 1 a share of the coordinates, from 1 on k itself.

    Raises
    ------
    ValueError
        If one is not a number, is not positive, or is neither a share nor an integer.

    Examples
    --------
    >>> parse_top_k("0.01,0.02,20")
    (0.01, 0.02, 20)
    """
    return tuple(_share(part.strip()) for part in text.split(","))


def _share(text: str) -> int | float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value > 0 and (value < 1 or value.is_integer())):
        raise ValueError(
            f"--top-k: {text!r} is neither a share in (0, 1) nor an integer k >= 1"
        )
    return value if value < 1 else int(value)


def top_k_spec(top_k: Sequence[int | float]) -> str:
    """Return the codec cycle of these shares and numbers.

    Examples
    --------
    >>> top_k_spec((0.01, 20))
    'topk:fraction=0.01;topk:k=20'
    """
    names = ("fraction" if value < 1 else "k" for value in top_k)
    pairs = zip(names, top_k, strict=True)
    spec = ";".join(f"topk:{name}={value}" for name, value in pairs)
    cycle_from(spec)
    return spec


def sparse_options(
    methods: Sequence[str],
    top_k: str | None,
    batch_growth: float | None,
    initial_batch: int | None,
) -> dict[str, Any]:
    """Return the options of `sparse-local-sgd` as `Hyperparameters` has them.

    Raises
    ------
    ValueError
        If one is out of range, or given where no method takes it.

    Examples
    --------
    >>> sparse_options(["sparse-local-sgd"], "0.01,20", None, 8)
    {'top_k': (0.01, 20), 'batch_growth': 1.0, 'initial_batch': 8}
    >>> sparse_options(["sgd"], None, None, None)
    {}
    """
    if METHOD in methods:
        return {
            "top_k": DEFAULT_TOP_K if top_k is None else parse_top_k(top_k),
            "batch_growth": 1.0 if batch_growth is None else batch_growth,
            "initial_batch": initial_batch,
        }
    given = {"top-k": top_k, "batch-growth": batch_growth}
    for option, value in {**given, "initial-batch": initial_batch}.items():
        if value is not None:
            raise ValueError(
                f"--{option} is for {METHOD} alone: add it to --methods, or leave the "
                "option out"
            )
    return {}
