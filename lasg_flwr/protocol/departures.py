"""Who may answer as whom, and who is taken out of S, whatever its node does."""

from collections.abc import Container, Iterator
from typing import Any

from ..memory import Memory
from ..rules import Rule
from .refusals import Refusal, RefusedReply
from .roster import Roster, WorkerRecord
from .rounds import OpenRound


def departing(
    rule: Rule[Any],
    memory: Memory,
    roster: Roster,
    closing: OpenRound,
    refused: Container[int],
) -> Iterator[WorkerRecord]:
    """Yield the workers to take out at the end of a round.

    Whoever is D rounds old is asked for an upload in every round. One that does not
    give a valid one is taken out after another D rounds, connected or not; one whose
    uploads the norm filter refuses, at once. A node that says that it is another
    worker, whose key is free, leaves its own; it is a stranger from then on.

    Parameters
    ----------
    rule, memory, roster : Rule, Memory, Roster
        The server's.
    closing : OpenRound
        The round that closes.
    refused : container of int
        Keys whose uploads of this round were too long.
    """
    k, delay = closing.round, rule.max_delay
    for record in roster.sorted():
        if k - record.round < (delay if record.key in refused else 2 * delay):
            continue
        if memory.in_sum(record) and not memory.waits(record):
            yield record
    for node, key in closing.claims.items():
        former = roster.at(node)
        if former is not None and _is_free(rule, roster, closing, node, key):
            yield former
            roster.unbind(former)


def check_key(
    rule: Rule[Any], roster: Roster, current: OpenRound, node: int, key: int
) -> None:
    """Check that a node may answer with a key.

    Raises
    ------
    RefusedReply
        If the rule does not know the worker, or it is another node's.
    """
    try:
        rule.check_key(key)
    except ValueError as error:
        raise RefusedReply(Refusal.UNKNOWN_KEY, str(error)) from None
    if not _is_free(rule, roster, current, node, key):
        raise RefusedReply(
            Refusal.DUPLICATE_KEY,
            f"key {key} is that of node {roster.records[key].node}, which is there: "
            "give each client its own partition-id; one that was started anew gets its "
            "key back once its former node is gone",
        )


def _is_free(
    rule: Rule[Any], roster: Roster, current: OpenRound, node: int, key: int
) -> bool:
    """Return whether nobody else has the key, or its owner is gone.

    Gone is who is not connected, or gave no valid answer for 2D rounds.
    """
    owner = roster.records.get(key)
    if owner is None or owner.node is None or owner.node == node:
        return True
    heard = max(owner.heard, owner.round)
    silent = current.round - heard >= 2 * rule.max_delay
    return silent or owner.node not in current.connected
