"""What the server sends of the model, and what it knows of who holds which version."""

import secrets
from collections import deque
from collections.abc import Iterable

import numpy as np

from ..config import DENSE, Settings
from ..errors import LasgError
from ..random import DOWNLINK, keyed_generator
from ..vectors import F32
from .holds import BroadcastState, Hold, RingStep
from .messages import SESSION_BYTES, Reply, Request
from .versions import (
    ID_BYTES,
    NO_FORM,
    Form,
    Path,
    Step,
    apply_step,
    encode_step,
    model_id,
    setup_digest,
)

LONGEST_DOUBT = 7
"""A node whose refusals go on gets 2^7 − 2 dense models in a row at most."""


class Broadcast:
    """θ̂, a ring of its last steps, and for each node the version that it holds.

    With the law ‖C(x) − x‖² ≤ ε‖x‖² of the codec, on every path ‖θ − θ̂‖ ≤
    √ε / (1 − √ε) · max ‖Δθ‖ (error feedback of the downlink: EF21-P, Gruntkowska et
    al. 2022, which proves convergence for SGD, and EF21-BC, Fatkhullin et al. 2021,
    with compression both ways). Without a codec θ̂ is θ, no ring is kept, and each
    request carries the dense model.

    Parameters
    ----------
    settings : Settings
        Those of the run.
    theta, buffers : ndarray
        The first version.
    form : Form
        What else the model is made of.

    Attributes
    ----------
    session : bytes, 16
        Random for each life of a server process.
    turn : int
        Number of the last batch of requests in this session.
    theta : ndarray, shape (p,), float32
        θ̂^k.
    model : bytes, 16, or None
        Its id; None where downloads are not coded.

    Raises
    ------
    ValueError
        If the codec of the downlink is no contraction at this length.
    """

    def __init__(
        self, settings: Settings, theta: F32, buffers: F32, form: Form = NO_FORM
    ) -> None:
        self.session, self.turn = secrets.token_bytes(SESSION_BYTES), 0
        self.theta, self.buffers = theta, buffers
        self.holds: dict[int, Hold] = {}
        self.ring: deque[RingStep] = deque()
        self._settings, self._form = settings, form
        self._codec = settings.downlink_codec
        if settings.codes_downloads and not self._codec.alpha(theta.size):
            raise ValueError(
                f"downlink {settings.downlink!r} is no contraction of vectors of "
                f"length {theta.size}: choose 'dense', or a codec with alpha > 0 such "
                "as 'topk:fraction=0.1'"
            )
        self._ring_bytes = 0
        self._paths: dict[bytes, Path | None] = {}
        self._evaluating: dict[int, Path | None] = {}
        self.model = self._id()

    def _id(self) -> bytes | None:
        if not self._settings.codes_downloads:
            return None
        setup = setup_digest(self._settings, self._form)
        return model_id(setup, self.theta, self.buffers)

    def start_anew(self, theta: F32, buffers: F32, form: Form) -> None:
        """Take a model that no step leads to: everybody gets the dense one."""
        self.theta, self.buffers, self._form = theta, buffers, form
        self.ring.clear()
        self._ring_bytes, self._paths = 0, {}
        self.model = self._id()

    def change_form(self, form: Form) -> None:
        """Take what else the model is made of out of a checkpoint."""
        self._form = form
        self.model = self._id()

    @property
    def dense_bytes(self) -> int:
        """Length of θ̂ and the buffers as they are."""
        return self.theta.nbytes + self.buffers.nbytes

    @property
    def packed_bytes(self) -> int:
        """Length of the packed model, integer arrays included."""
        return self.dense_bytes + len(self._form.integers)

    def request(
        self,
        node: int,
        round_: int,
        threshold: float = 0.0,
        accepted_id: bytes | None = None,
        force: bool = False,
        full_codec: str = DENSE,
    ) -> Request:
        """Return the request of this turn for a node, with what it needs of the model.

        Sending changes no belief: what a node holds, it says itself.
        """
        return Request(
            self._settings,
            self.session,
            round_,
            self.theta,
            threshold,
            accepted_id,
            force,
            full_codec,
            self.buffers,
            turn=self.turn,
            model=self.model,
            path=self._path(node),
            form=self._form,
        )

    def evaluate(self, nodes: Iterable[int], round_: int) -> list[tuple[int, Request]]:
        """Return requests to evaluate θ̂ at some nodes: a turn of its own."""
        self.turn += 1
        requests = [(node, self.request(node, round_)) for node in nodes]
        self._evaluating = {node: request.path for node, request in requests}
        return requests

    def evaluated(self, node: int, reply: Reply) -> bool:
        """Take the answer to an evaluation; return whether its figures count."""
        self.heard(node, reply)
        if reply.session != self.session or reply.turn != self.turn:
            return False
        if node not in self._evaluating:
            return False
        self.answered(node, self._evaluating.pop(node), reply)
        return reply.kind != "no-model"

    def move(self, theta: F32, buffers: F32, round_: int) -> None:
        """Go on to the next version: as near to θ^{k+1} as one coded step gets."""
        if self.model is None:
            self.theta, self.buffers = theta, buffers
            return
        codec, rng = self._codec.at(round_), None
        if codec.stochastic:
            rng = keyed_generator(self._settings.seed, 0, round_, DOWNLINK)
        difference = np.subtract(theta, self.theta, dtype=np.float32)
        payload = encode_step(codec, difference, buffers, rng)
        self.theta, self.buffers = apply_step(codec, payload, self.theta, self.buffers)
        before, after = self.model, self._id()
        if after is None:
            raise LasgError("downloads are coded, but the model has no id")
        self.model = after
        self.ring.append(RingStep(before, after, payload))
        self._ring_bytes += len(payload) + ID_BYTES
        while self._ring_bytes > self.dense_bytes:
            self._ring_bytes -= len(self.ring.popleft().payload) + ID_BYTES
        self._paths = {}

    def _path(self, node: int) -> Path | None:
        """Return the steps that a node needs; None if it gets the dense model."""
        hold = None if self.model is None else self.holds.get(node)
        if self.model is None or hold is None:
            return None
        if hold.dense:  # also where it says that it has the model: it may not keep it
            self.holds[node] = hold._replace(dense=hold.dense - 1)
            return None
        if hold.id == self.model:
            return Path(self.model)
        if hold.id is None:
            return None
        if hold.id not in self._paths:
            self._paths[hold.id] = self._path_from(hold.id)
        return self._paths[hold.id]

    def _path_from(self, version: bytes) -> Path | None:
        """Return the way from the *first* place of a version in the ring.

        A node may have gone on since it said what it holds, and θ̂ may come back to an
        earlier version: from its last place on, that node's might not be on the way.
        """
        steps = [(s.before, Step(s.after, s.payload)) for s in self.ring]
        start = next((i for i, (v, _) in enumerate(steps) if v == version), None)
        if start is None:
            return None
        path = Path(version, tuple(step for _, step in steps[start:]))
        return path if path.length < self.dense_bytes else None

    def heard(self, node: int, reply: Reply) -> None:
        """Take what a node says it holds, unless a later reply has said it already."""
        if self.model is None:
            return
        hold = self.holds.get(node, Hold(None))
        ours = reply.session == self.session and hold.turn <= reply.turn <= self.turn
        if ours:
            self.holds[node] = hold._replace(id=reply.holds, turn=reply.turn)

    def answered(self, node: int, path: Path | None, reply: Reply) -> None:
        """Note what became of a request: doubts grow, or steps that led on end them."""
        if self.model is None:
            return
        hold = self.holds.get(node, Hold(None))
        if reply.kind == "no-model":
            doubts = min(hold.doubts + 1, LONGEST_DOUBT)
            self.holds[node] = hold._replace(doubts=doubts, dense=2**doubts - 2)
        elif path is not None and path.steps:
            self.holds[node] = hold._replace(doubts=0, dense=0)

    def forget(self, node: int | None) -> None:
        """Drop what a node said: it left, or another answers in its place."""
        if node is not None:
            self.holds.pop(node, None)

    def keep(self, nodes: set[int]) -> None:
        """Forget all nodes but these."""
        self.holds = {n: hold for n, hold in self.holds.items() if n in nodes}

    def state(self) -> BroadcastState:
        """Return what a checkpoint holds."""
        if self.model is None:
            return BroadcastState()
        return BroadcastState(
            self.theta, self.buffers, list(self.ring), dict(self.holds)
        )

    def restore(self, state: BroadcastState, theta: F32, buffers: F32) -> None:
        """Go on from a checkpoint; its θ̂ is part of it, and is not made anew from θ."""
        self.theta, self.buffers = theta, buffers
        if state.theta is not None and state.buffers is not None:
            self.theta, self.buffers = state.theta, state.buffers
        self.ring = deque(state.ring)
        self._ring_bytes = sum(len(s.payload) + ID_BYTES for s in self.ring)
        self.holds = {n: h._replace(turn=-1) for n, h in state.holds.items()}
        self._paths = {}
        self.model = self._id()
