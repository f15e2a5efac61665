"""A server's whole state between two rounds, as arrays and metadata, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoint
from .aggregate import PerWorkerAggregate, SumOnlyAggregate
from .checkpoint import Arrays
from .errors import CheckpointError
from .ledger import Ledger
from .roster import IterateStore, Record, Roster
from .screen import NormScreen
from .server import LasgServer
from .vectors import frozen

VERSION = 2
_SCALARS = (
    *("key", "node", "weight", "accepted", "round"),
    *("counted", "estimate", "gone", "aside", "sum_round"),
)


def capture(server: LasgServer) -> tuple[Arrays, dict[str, Any]]:
    """Return everything that a server needs to go on: arrays, and JSON-ready values.

    The session is left out: a restored server has its own. The arrays do not change
    when the server goes on, so they may be written later.

    Raises
    ------
    LasgError
        While a round is open.
    """
    server.check_between_rounds("save the server")
    arrays: Arrays = {"theta": server.theta, "buffers": server.buffers}
    arrays["S"] = server.aggregate.total.copy()
    if isinstance(server.aggregate, SumOnlyAggregate):
        arrays["aside"] = server.aggregate.aside.copy()
    for name, moment in server.step.state.items():
        arrays[f"step/{name}"] = moment.copy()
    for round_, theta, _ in server.iterates.items():
        arrays[f"iterate/{round_}"] = theta
    records = [_record_out(record, arrays) for record in server.roster.sorted()]
    meta = {
        "version": VERSION,
        "fingerprint": _fingerprint(server),
        "round": server.round,
        "weight": server.aggregate.weight,
        "history": list(server.history.squares),
        "ledger": server.ledger.as_dict(),
        "norms": server.screen.as_dict(),
        "iterates": [[r, users] for r, _, users in server.iterates.items()],
        "records": records,
    }
    return arrays, meta


def restore(server: LasgServer, arrays: Arrays, meta: dict[str, Any]) -> None:
    """Put a captured state into a new server made with the same arguments.

    Raises
    ------
    CheckpointError
        If the state is of another model, rule, codec, memory or version; the server
        is left as it was.
    """
    found = {"version": meta.get("version"), **(meta.get("fingerprint") or {})}
    expected = {"version": VERSION, **_fingerprint(server)}
    for name in sorted({*found, *expected}, key=lambda n: (n != "version", n)):
        if found.get(name) != expected.get(name):
            raise CheckpointError(
                f"the checkpoint's {name} is {found.get(name)!r}, this server's is "
                f"{expected.get(name)!r}: resume with what it was saved with"
            )
    try:
        _load(server, arrays, meta)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint is incomplete: {error!r}") from None


def save_server(server: LasgServer, path: Path) -> None:
    """Write a checkpoint of `server` to `path`, atomically."""
    checkpoint.write(path, checkpoint.to_bytes(*capture(server)))


def load_server(server: LasgServer, path: Path) -> None:
    """Restore `server` from the checkpoint at `path`; see `restore`."""
    restore(server, *checkpoint.read(path))


def _fingerprint(server: LasgServer) -> dict[str, Any]:
    return {
        **asdict(server.settings),
        "size": server.theta.size,
        "buffers": server.buffers.size,
        "c": server.c,
        "step": server.step.name,
        "weights": server.weights,
        "full_codec": server.full_codec,
    }


def _load(server: LasgServer, arrays: Arrays, meta: dict[str, Any]) -> None:
    """Read everything first, then replace it all."""
    roster, iterates = Roster(), IterateStore()
    for fields in meta["records"]:
        roster.add(_record_in(fields, arrays))
    for round_, users in meta["iterates"]:
        iterates.put(round_, frozen(arrays[f"iterate/{round_}"]), users)
    moments = {n[5:]: a for n, a in arrays.items() if n.startswith("step/")}
    theta, round_ = frozen(arrays["theta"]), meta["round"]
    buffers = frozen(arrays["buffers"])
    squares, ledger = meta["history"], Ledger.from_dict(meta["ledger"])
    norms = NormScreen.norms_from(meta["norms"])
    _restore_aggregate(server, arrays, meta, roster)
    server.step.load(moments)
    server.theta, server.round = theta, round_
    server.buffer_mean.values = buffers
    server.history.squares.extend(squares)
    server.screen.norms = norms
    server.roster, server.iterates, server.ledger = roster, iterates, ledger


def _restore_aggregate(
    server: LasgServer, arrays: Arrays, meta: dict[str, Any], roster: Roster
) -> None:
    aggregate = server.aggregate
    total, weight = np.array(arrays["S"]), float(meta["weight"])
    if isinstance(aggregate, SumOnlyAggregate):
        aggregate.aside = np.array(arrays["aside"])
    elif isinstance(aggregate, PerWorkerAggregate):
        aggregate.members = sum(r.counted for r in roster.records.values())
    aggregate.total, aggregate.weight = total, weight


def _record_out(record: Record, arrays: Arrays) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(record, name) for name in _SCALARS}
    fields["id"] = None if record.id is None else record.id.hex()
    if isinstance(record.held, bytes):
        fields["codec"] = record.held_codec
        arrays[f"payload/{record.key}"] = np.frombuffer(record.held, np.uint8)
    elif record.held is not None:
        arrays[f"h/{record.key}"] = record.held
    return fields


def _record_in(fields: dict[str, Any], arrays: Arrays) -> Record:
    record = Record(**{name: fields[name] for name in _SCALARS})
    record.id = None if fields["id"] is None else bytes.fromhex(fields["id"])
    if (payload := arrays.get(f"payload/{record.key}")) is not None:
        record.held, record.held_codec = payload.tobytes(), fields["codec"]
    elif (h := arrays.get(f"h/{record.key}")) is not None:
        record.held = frozen(h)
    return record
