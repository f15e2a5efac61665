"""Whether the server would keep a reply, found out without any change."""

from .departures import check_key
from .messages import Reply
from .refusals import RefusedReply
from .rounds import decoded
from .server import LasgServer


def accepts(server: LasgServer, node: int, reply: Reply) -> bool:
    """Return whether `LasgServer.receive` would keep a reply now.

    Parameters
    ----------
    server : LasgServer
        The server.
    node : int
        Where the reply came from.
    reply : Reply
        What it says.
    """
    current = server._open
    if current is None:
        return False
    try:
        request = current.check(node, reply)
        check_key(server.rule, server.roster, current, node, reply.key)
        if reply.kind != "skip":
            server.buffer_mean.decode(reply.buffers)
            vector = decoded(request, reply).decoded
            server.norm_filter.compare(reply.key, reply.kind, vector)
    except RefusedReply:
        return False
    return True
