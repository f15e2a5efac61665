"""What an upload is relative to, and what the server holds: one file an idea.

Worker's half and server's half of a memory stand in the same file; the server's half
that innovation and gradient memory share is in `per_worker`.
"""

from .base import Encoded, Member, Memory, Slots, Sum, Upload
from .error_feedback import ErrorFeedback
from .gradient import Gradient
from .innovation import Innovation
from .sum_only import SumOnly

MEMORIES: dict[tuple[str, str], type[Memory]] = {
    (memory.name, memory.held): memory
    for memory in (Innovation, SumOnly, Gradient, ErrorFeedback)
}
"""All memories, by what an upload is relative to and what the server holds."""

SYNONYMS = {"error": ErrorFeedback.name}


def memory_from(name: str, held: str, lossless: bool = False) -> Memory:
    """Return the memory of these names.

    Parameters
    ----------
    name : {"innovation", "gradient", "error-feedback"}
        What an upload is relative to; ``"error"`` is a synonym of the last.
    held : {"per-worker", "sum-only"}
        What the server holds.
    lossless : bool (default: False)
        Whether all codecs of the run are.

    Raises
    ------
    ValueError
        For an unknown name, or two that do not go together.

    Examples
    --------
    >>> memory_from("error", "per-worker")
    ErrorFeedback(lossless=False)
    """
    name = memory_name(name)
    known_held = sorted({held for _, held in MEMORIES})
    if held not in known_held:
        raise ValueError(
            f"unknown server memory {held!r}: choose one of {', '.join(known_held)}"
        )
    if (name, held) not in MEMORIES:
        raise ValueError(
            f"{name} memory needs server_memory='per-worker': with {held!r} only "
            "memory='innovation' can do without what it knows of each worker"
        )
    return MEMORIES[name, held](lossless)


def memory_name(name: str) -> str:
    """Return the canonical name of a memory.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    known = list(dict.fromkeys(name for name, _ in MEMORIES))
    name = SYNONYMS.get(name, name)
    if name not in known:
        raise ValueError(f"unknown memory {name!r}: choose one of {', '.join(known)}")
    return name


__all__ = [
    "MEMORIES",
    "Encoded",
    "ErrorFeedback",
    "Gradient",
    "Innovation",
    "Member",
    "Memory",
    "Slots",
    "Sum",
    "SumOnly",
    "Upload",
    "memory_from",
    "memory_name",
]
