"""The part of a client's `Context.state` that is this package's."""

from flwr.app import ConfigRecord, RecordDict

from ..flower import records

STATE_KEY = "lasg.state"
"""The record's name."""


def load_state(state: RecordDict) -> bytes | None:
    """Return the worker state in a Context's state, if there is one."""
    value = records.field(state.config_records, STATE_KEY, "worker")
    return value if isinstance(value, bytes) else None


def save_state(state: RecordDict, data: bytes) -> None:
    """Put the worker state into a Context's state."""
    state.config_records[STATE_KEY] = ConfigRecord({"worker": data})


def save_state_place(state: RecordDict, path: str, session: bytes, turn: int) -> None:
    """Say in a Context's state where the worker state is, and of which request."""
    state.config_records[STATE_KEY] = ConfigRecord(
        {"file": path, "session": session, "turn": turn}
    )
