"""Asking a node once more within a round: with the dense model, which it lacked."""

from .messages import Request
from .server import LasgServer


def ask_again(server: LasgServer, node: int) -> Request | None:
    """Return a further request of this round for a node that answered "no-model".

    It has a turn of its own and carries the dense model. The transport that asks for it
    sends it; without it, the node misses the round.

    Parameters
    ----------
    server : LasgServer
        The server, which has just refused that answer.
    node : int
        Where it came from.

    Returns
    -------
    Request or None
        None if nothing of the kind was answered from there.
    """
    current, broadcast = server._open, server.broadcast
    if current is None:
        return None
    again = current.ask_again(node, broadcast.turn + 1)
    if again is None:
        return None
    broadcast.turn += 1
    server.ledger.count_requests(0, [None], broadcast.packed_bytes, 0)
    return again
