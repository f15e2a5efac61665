"""Random histories with coded downloads, and mutants of their protocol."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgWorker
from lasg_flwr.protocol import LasgServer, WorkerState, serving, versions, worker
from lasg_flwr.protocol.broadcast import Broadcast
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.protocol.versions import Path
from tests.problems.protocol.driver import Odds, play
from tests.problems.protocol.history import History
from tests.problems.protocol.setups import (
    DOWNLINKS,
    MEMORIES,
    RULES,
    Setup,
    coarse_codecs,
)

HISTORIES = 8
LOSSES = Odds(lost=0.3, late=0.6, restart=0.0, server=0.0)


@pytest.fixture(autouse=True)
def _codecs() -> Iterator[None]:
    with coarse_codecs():
        yield


# --- histories --------------------------------------------------------------------


@pytest.mark.parametrize("memory", MEMORIES, ids="/".join)
@pytest.mark.parametrize("rule", [*RULES, "vr"])
def test_random_histories_keep_the_protocol(rule: str, memory: Any) -> None:
    for seed in range(HISTORIES):
        play(seed, rules=[rule], memories=[memory], downlinks=DOWNLINKS)


def test_losses_alone_cause_no_refusal() -> None:
    for seed in range(30):
        history = play(seed, downlinks=DOWNLINKS, odds=LOSSES)
        assert "no model" not in history.server.ledger.refused


def test_the_histories_are_not_vacuous() -> None:
    histories = [play(seed, downlinks=DOWNLINKS) for seed in range(20)]
    assert sum(h.paths for h in histories) > 400
    assert sum(h.evaluated for h in histories) > 500
    assert sum(h.server.ledger.refused["no model"] for h in histories) > 15
    assert sum(h.repeats for h in histories) > 10
    assert sum(h.restores for h in histories) > 20
    assert any(h.server.broadcast.ring for h in histories)


# --- mutants: the histories bite ----------------------------------------------------


class _Equal(bytes):
    """A hash that agrees with everything."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = bytes.__hash__


def _trusting(patch: pytest.MonkeyPatch) -> None:
    """Workers do not hash what they arrive at."""
    for module in (serving, versions):
        patch.setattr(module, "model_id", lambda *args: _Equal())


def _counted(patch: pytest.MonkeyPatch) -> None:
    """The id of a model is the number of its round."""

    def count(self: Broadcast) -> bytes | None:
        self.moves = getattr(self, "moves", -1) + 1  # type: ignore[attr-defined]
        return self.moves.to_bytes(16, "little")  # type: ignore[attr-defined, no-any-return]

    _trusting(patch)
    patch.setattr(Broadcast, "_id", count)


def _exact_dense(patch: pytest.MonkeyPatch) -> None:
    """The dense model is θ rather than θ̂."""
    asks = LasgServer._request

    def exact(self: LasgServer, *args: Any) -> Request:
        request = asks(self, *args)
        return request if request.path else request._replace(theta=self.theta)

    patch.setattr(LasgServer, "_request", exact)


def _encoders_vector(patch: pytest.MonkeyPatch) -> None:
    """The server goes on from what it encoded rather than from what it decodes."""
    move = Broadcast.move

    def exact(self: Broadcast, theta: Any, buffers: Any, round_: int) -> None:
        move(self, theta, buffers, round_)
        self.theta = theta

    patch.setattr(Broadcast, "move", exact)


def _made_anew(patch: pytest.MonkeyPatch) -> None:
    """A restored server takes θ for θ̂."""
    restore = Broadcast.restore

    def anew(self: Broadcast, state: Any, theta: Any, buffers: Any) -> None:
        restore(self, state, theta, buffers)
        self.theta = theta
        self.model = self._id()

    patch.setattr(Broadcast, "restore", anew)


def _exact_iterates(patch: pytest.MonkeyPatch) -> None:
    """PS and PSE store θ rather than θ̂."""
    apply = LasgServer._apply

    def exact(self: LasgServer, *args: Any) -> None:
        kept, self.broadcast.theta = self.broadcast.theta, self.theta
        apply(self, *args)
        self.broadcast.theta = kept

    patch.setattr(LasgServer, "_apply", exact)


def _hasty(patch: pytest.MonkeyPatch) -> None:
    """The server believes that whatever it sends arrives."""
    asks = Broadcast.request

    def hasty(self: Broadcast, node: int, *args: Any, **options: Any) -> Request:
        request = asks(self, node, *args, **options)
        said = Reply(self.session, 0, 0, None, "skip", turn=self.turn, holds=self.model)
        self.heard(node, said)
        return request

    patch.setattr(Broadcast, "request", hasty)


def _deaf(quiet: Callable[[Reply], bool]) -> Callable[[pytest.MonkeyPatch], None]:
    def mutant(patch: pytest.MonkeyPatch) -> None:
        heard = Broadcast.heard

        def deaf(self: Broadcast, node: int, reply: Reply) -> None:
            if not quiet(reply):
                heard(self, node, reply)

        patch.setattr(Broadcast, "heard", deaf)

    return mutant


def _timeless(patch: pytest.MonkeyPatch) -> None:
    """`answered` is compared without the session."""

    def old(answered: tuple[bytes, int] | None, request: Request) -> bool:
        return answered is not None and request.turn <= answered[1]

    for module in (serving, worker):
        patch.setattr(module, "is_old", old)


def _rounds_for_turns(patch: pytest.MonkeyPatch) -> None:
    """An evaluation goes by the round's number."""
    ask = Broadcast.evaluate

    def again(self: Broadcast, *args: Any) -> Any:
        self.turn -= 1
        return ask(self, *args)

    patch.setattr(Broadcast, "evaluate", again)


def _faulty_decoder(patch: pytest.MonkeyPatch) -> None:
    """A worker's memory flips a sign now and then."""
    dice, apply = np.random.default_rng(0), versions.apply_step

    def faulty(*args: Any) -> Any:
        theta, buffers = apply(*args)
        return (-theta if dice.random() < 0.1 else theta), buffers

    patch.setattr(versions, "apply_step", faulty)


def _no_rehash(patch: pytest.MonkeyPatch) -> None:
    _faulty_decoder(patch)
    _trusting(patch)


def _whole_path(patch: pytest.MonkeyPatch) -> None:
    """All steps are applied, wherever the worker stands."""
    patch.setattr(Path, "after", lambda self, version: self.steps)


def _only_base(patch: pytest.MonkeyPatch) -> None:
    """A worker that is on the way already is not recognised."""

    def after(self: Path, version: bytes) -> Any:
        return self.steps if version == self.base else None

    patch.setattr(Path, "after", after)


def _refusal_forgets(patch: pytest.MonkeyPatch) -> None:
    """A refusal drops the worker's uploads, or marks the request as answered."""
    begin = LasgWorker.begin

    def forgetful(self: LasgWorker, request: Request) -> Any:
        task = begin(self, request)
        if isinstance(task, Reply):
            self.state = WorkerState(answered=(request.session, request.turn))
        return task

    patch.setattr(LasgWorker, "begin", forgetful)


Mutant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[Mutant, str, Odds | None]] = {
    "count": (_counted, "model", None),
    "dense carries theta": (_exact_dense, "refused", None),
    "encoder's vector": (_encoders_vector, "refused|model", None),
    "made anew on restore": (_made_anew, "", None),
    "exact iterates": (_exact_iterates, "", None),
    "belief at sending": (_hasty, "losses", LOSSES),
    "uploads alone report": (_deaf(lambda r: not r.payload), "not heard", None),
    "mute refusals": (_deaf(lambda r: r.kind == "no-model"), "not heard|refused", None),
    "no session": (_timeless, "", None),
    "rounds for turns": (_rounds_for_turns, "ignored", None),
    "no rehash": (_no_rehash, "model", None),
    "the whole path": (_whole_path, "losses|refused", LOSSES),
    "only the base": (_only_base, "losses", LOSSES),
    "a refusal that forgets": (_refusal_forgets, "a refusal changed the state", None),
}


def _verdict(seed: int, odds: Odds | None) -> str | None:
    try:
        history = play(seed, downlinks=DOWNLINKS, odds=odds)
    except AssertionError as error:
        return str(error)
    if odds is LOSSES and history.server.ledger.refused["no model"]:
        return "losses alone caused a refusal"
    return None


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, said, odds = MUTANTS[name]
    mutant(monkeypatch)
    verdicts = (_verdict(seed, odds) for seed in range(80))
    found = next((v for v in verdicts if v is not None), None)
    assert found is not None, f"nothing caught {name!r}"
    assert any(word in found for word in said.split("|")), found


def test_a_faulty_decoder_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes out of a broken step has another hash: it is never computed at."""
    _faulty_decoder(monkeypatch)
    refused = 0
    for seed in range(20):
        history = History(Setup("wk2", "dense", downlink="topk:k=1"), seed)
        for _ in range(20):
            history.open(sorted(history.workers))
            count = len(history.asked)
            for index in range(len(history.requests) - count, len(history.requests)):
                answer = history.deliver_request(index)
                assert answer is not None
                history.deliver_reply(answer)
            history.close()
        refused += history.server.ledger.refused["no model"]
    assert refused > 10
