"""Faults put into the protocol on purpose: the suite's drivers find each of them.

The ids without payload, session or round are in `tests.protocol.test_stateful`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lasg_flwr.codecs import wire
from lasg_flwr.memory import SumOnly
from lasg_flwr.memory.base import accept
from lasg_flwr.memory.sum_only import StagedSum
from lasg_flwr.protocol import LasgWorker, Task
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.protocol.refusals import Refusal, RefusedReply
from lasg_flwr.protocol.roster import IterateStore
from lasg_flwr.protocol.rounds import OpenRound
from tests.problems.protocol.driver import play
from tests.problems.protocol.setups import coarse_codecs
from tests.protocol.test_hostile import Siege

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module", autouse=True)
def _codecs() -> Iterator[None]:
    with coarse_codecs():
        yield


def _ignore_answered(patch: Patch) -> None:
    """A worker answers a request again that it has answered before."""
    begin = LasgWorker.begin

    def mutant(self: LasgWorker, request: Request) -> Task | Reply | None:
        kept, self.state = self.state, self.state._replace(answered=None)
        try:
            return begin(self, request)
        finally:
            self.state = kept

    patch.setattr(LasgWorker, "begin", mutant)


def _any_base(patch: Patch) -> None:
    """A worker builds on its last upload, whichever the server means."""
    patch.setattr(
        LasgWorker,
        "_slot",
        lambda self, upload: self.state.pending or self.state.committed,
    )


def _older_base(patch: Patch) -> None:
    """A worker that knows the server's upload builds on the one before it."""
    right = LasgWorker._slot

    def mutant(self: LasgWorker, upload: bytes | None) -> Any:
        found, older = right(self, upload), self.state.committed
        if found is None or older is None:
            return found
        return older._replace(id=found.id)

    patch.setattr(LasgWorker, "_slot", mutant)


def _no_release(patch: Patch) -> None:
    """A stored iterate is never let go of."""
    patch.setattr(IterateStore, "release", lambda self, round_: None)


def _nothing_staged(patch: Patch) -> None:
    """An upload that cannot be replaced in S is taken for the worker's h at once."""
    apply = SumOnly.apply

    def mutant(self: SumOnly, state: StagedSum, member: Any, upload: Any) -> None:
        if upload.kind == "full" and member.memory.in_sum:
            accept(member, upload)
        else:
            apply(self, state, member, upload)

    patch.setattr(SumOnly, "apply", mutant)


def _added_twice(patch: Patch) -> None:
    """It is added to what is in S already."""
    apply = SumOnly.apply

    def mutant(self: SumOnly, state: StagedSum, member: Any, upload: Any) -> None:
        if upload.kind == "full" and member.memory.in_sum:
            upload = upload._replace(kind="innovation")
        apply(self, state, member, upload)

    patch.setattr(SumOnly, "apply", mutant)


MUTANTS: dict[str, tuple[Callable[[Patch], None], str, tuple[int, ...]]] = {
    "answered ignored": (_ignore_answered, "answered again", (0, 1, 2, 3)),
    "any base": (_any_base, "foreign base", (0, 1, 2)),
    "older base": (_older_base, "equal ids, other", (0, 1, 2)),
    "no release": (_no_release, "", (1, 4, 7, 9)),
    "nothing staged": (_nothing_staged, "", (0, 2, 4, 5)),
    "added twice": (_added_twice, "", (5, 13)),
}
"""How each is made, what the driver says of it, and histories that meet it."""


def _found(seed: int, says: str) -> bool:
    try:
        play(seed)
    except AssertionError as error:
        return says in str(error)
    return False


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found_by_random_histories(name: str, monkeypatch: Patch) -> None:
    mutate, says, seeds = MUTANTS[name]
    assert not any(_found(seed, "") for seed in seeds)
    mutate(monkeypatch)
    assert any(_found(seed, says) for seed in seeds)


def _besieged() -> bool:
    siege = Siege(1, "per-worker")
    try:
        for _ in range(300):
            siege.attack()
    except AssertionError:
        return True
    return False


def _unless(refusal: Refusal) -> Any:
    """A round's check that lets one kind of bad reply through."""
    check = OpenRound.check

    def mutant(self: OpenRound, node: int, reply: Any) -> Request:
        try:
            return check(self, node, reply)
        except RefusedReply as refused:
            if refused.reason is not refusal or node not in self._asked:
                raise
            return self._asked[node][0]

    return mutant


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal.FOREIGN_BASE,
        Refusal.FOREIGN_KEY,
        Refusal.OTHER_ROUND,
        Refusal.ILLEGAL_SKIP,
        Refusal.BAD_HEADER,
    ],
)
def test_a_check_that_is_missing_is_found_by_hostile_replies(
    refusal: Refusal, monkeypatch: Patch
) -> None:
    assert not _besieged()
    monkeypatch.setattr(OpenRound, "check", _unless(refusal))
    assert _besieged()


def test_decoding_without_checks_is_found_by_hostile_replies(
    monkeypatch: Patch,
) -> None:
    right = wire.decode

    def mutant(
        payload: bytes,
        codec: Any,
        size: int,
        gain: float = 1.0,
        largest: float | None = None,
    ) -> Any:
        try:
            return right(payload, codec, size, gain, largest)
        except Exception:
            return np.zeros(size, np.float32)

    monkeypatch.setattr(wire, "decode", mutant)
    assert _besieged()
