"""What a worker makes of a request: is it new, which model is it about, what is due."""

from typing import Any, NamedTuple

from ..vectors import F32
from .heads import Head
from .messages import Reply, Request
from .state import Slot, WorkerState
from .versions import HeldModel, Path, follow, model_id, setup_digest


class Task(NamedTuple):
    """What must be computed before a request can be answered.

    Attributes
    ----------
    request : Request
        What is asked.
    base : Slot, optional
        The upload that the server builds on, if the worker has it.
    rule : NamedTuple, optional
        The rule's state with it; None also where the rule drops it.
    forced : bool
        Whether an upload is due whatever the rule says.
    batch : object
        ξ^k.
    model : HeldModel, optional
        What the worker holds of the model from now on.
    reference_point : ndarray, shape (p,), optional
        Where a second gradient is needed.
    """

    request: Request
    base: Slot | None
    rule: Any
    forced: bool
    batch: Any
    reference_point: F32 | None
    model: HeldModel | None = None


def is_old(answered: tuple[bytes, int] | None, request: Request) -> bool:
    """Return whether a request is not newer than the last that was answered."""
    return (
        answered is not None
        and answered[0] == request.session
        and request.turn <= answered[1]
    )


class Reached:
    """The last version of the model that a worker of this process has come to.

    A version is what its id says, whoever decoded it: workers that share this object
    decode and hash each step once, and hold one and the same vector.
    """

    def __init__(self) -> None:
        self._last: HeldModel | None = None

    def follow(self, held: HeldModel, path: Path, target: bytes) -> HeldModel | None:
        """Return what `lasg_flwr.protocol.versions.follow` does."""
        last = self._last
        if (
            last is not None
            and (last.id, last.settings, last.form)
            == (target, held.settings, held.form)
            and path.after(held.id) is not None
        ):
            return last
        found = follow(held, path, target)
        self._last = found or last
        return found


def served(
    held: HeldModel | None, request: Request, reached: Reached | None = None
) -> HeldModel | None:
    """Return the version of the model that a request is about.

    Parameters
    ----------
    held : HeldModel, optional
        What the worker has.
    request : Request
        What is asked.
    reached : Reached, optional
        What other workers of this process share with it.

    Returns
    -------
    HeldModel or None
        A model whose hash is the id that the server sent. None if it is out of reach;
        where downloads are not coded, what the worker has, which is not used.
    """
    target = request.model
    if target is None or (held is not None and held.id == target):
        return held
    if request.path is not None:
        if held is None:
            return None
        return (reached or Reached()).follow(held, request.path, target)
    digest = setup_digest(request.settings, request.form)
    if model_id(digest, request.theta, request.buffers) != target:
        return None
    return HeldModel(
        target, request.theta, request.buffers, request.settings, request.form
    )


def evaluated(
    state: WorkerState, key: int, head: Head, request: Request | None
) -> tuple[WorkerState, Request | None, Reply | None]:
    """Go to the version of the model that an evaluation is about.

    Parameters
    ----------
    state : WorkerState
        The worker's.
    key : int
        The worker's.
    head : Head
        Of the request.
    request : Request, optional
        The request; None where it could not be put together for want of a model.

    Returns
    -------
    state : WorkerState
        To be saved.
    request : Request or None
        With the model to be evaluated; None if it is out of reach, or the request old.
    reply : Reply or None
        What to tell the server; None for an old request.
    """
    if request is None:
        return state, None, no_model(head, key, 1, state.model)
    if is_old(state.answered, request):
        return state, None, None
    model = served(state.model, request)
    if model is None:
        return state, None, no_model(head, key, 1, state.model)
    answered = (head.session, head.turn)
    reply = Reply(
        head.session, head.round, key, None, "skip", turn=head.turn, holds=head.model
    )
    found = request._replace(theta=model.theta, buffers=model.buffers, form=model.form)
    return state._replace(answered=answered, model=model), found, reply


def no_model(head: Head, key: int, examples: int, held: HeldModel | None) -> Reply:
    """Return the answer to a request that cannot be followed.

    Parameters
    ----------
    head : Head
        Of the request.
    key, examples : int
        The worker's.
    held : HeldModel, optional
        What the worker has instead.
    """
    return Reply(
        head.session,
        head.round,
        key,
        None,
        "no-model",
        examples=examples,
        turn=head.turn,
        holds=None if held is None else held.id,
    )
