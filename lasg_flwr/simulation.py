"""The in-process engine: the two state machines, without Flower."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .checks import whole
from .config import U64, LasgConfig, config_from
from .errors import DuplicateKeyError
from .history import Evaluate, History, Recorder, mean_evaluation
from .ledger import Ledger
from .oracles import BatchedGradient, Oracle
from .protocol import LasgServer, LasgWorker
from .protocol.answers import Answers
from .protocol.rounds import RoundReport
from .protocol.serving import Reached
from .protocol.versions import NO_FORM, Form
from .vectors import F32

Callback = Callable[[LasgServer, RoundReport], bool | None]
Sampler = Callable[[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """Outcome of `simulate`.

    Attributes
    ----------
    theta : ndarray, shape (p,), float32
        The last iterate.
    server : LasgServer
        The server, to go on or look into.
    workers : list of LasgWorker
        The workers, in key order.
    history : History
        Uploads and bytes of every round; loss and accuracy where evaluated.
    not_batched : str
        Why each oracle computed its own gradient; empty where they were computed
        together.
    """

    theta: F32
    server: LasgServer
    workers: list[LasgWorker]
    history: History = field(default_factory=History)
    not_batched: str = ""

    @property
    def ledger(self) -> Ledger:
        """What was sent."""
        return self.server.ledger

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the history, see `lasg_flwr.history.History.plot`."""
        return self.history.plot(path)


def simulate(
    oracles: Sequence[Oracle],
    theta: NDArray[Any],
    *,
    rounds: int,
    config: LasgConfig | None = None,
    buffers: NDArray[Any] | None = None,
    form: Form = NO_FORM,
    keys: Sequence[int] | None = None,
    callback: Callback | None = None,
    batched: bool | None = None,
    batched_gradient: BatchedGradient | None = None,
    sample: Sampler | None = None,
    evaluate_every: int | None = None,
    evaluate: Evaluate | None = None,
    progress: bool = False,
    **options: Any,
) -> SimulationResult:
    """Run lazily aggregated SGD over `oracles` in this process.

    The same state machines as under Flower: for equal seeds, keys and oracles the
    iterates are equal to the bit.

    Parameters
    ----------
    oracles : sequence of Oracle
        One for each worker.
    theta : ndarray, shape (p,)
        θ^0.
    rounds : int
        How many rounds to run.
    config : LasgConfig, optional
        What the run is told, in place of `options`.
    buffers : ndarray, shape (B,), optional
        The first values of the model's buffers.
    form : Form, optional
        What else the model is made of, see `LasgServer`.
    keys : sequence of int, optional
        Worker keys; left out, 0, 1, ....
    callback : callable, optional
        Called as ``callback(server, report)`` after each round; a return of True
        stops the run.
    batched : bool, optional
        Whether the oracles' gradients are computed in one call, see `Oracle.together`;
        equal to their own up to rounding. Left out, they are where the oracles allow
        it, as those of a PyTorch model do that share the module. False: each oracle
        computes its own, and the iterates are equal to Flower's to the bit.
    batched_gradient : callable, optional
        Computes the gradients of many workers at once; equal to the oracles' own up
        to rounding. Not with buffers, which each worker must see change on its own.
    sample : callable, optional
        ``sample(round)`` gives the positions of the workers that a round can reach;
        left out, all of them.
    evaluate_every : int, optional
        The model is evaluated every so many rounds, and after the last.
    evaluate : callable, optional
        ``evaluate(theta)`` returns a mapping with a ``"loss"``, an ``"accuracy"``, or
        both; left out, the mean of the oracles' own `Oracle.evaluate`.
    progress : bool (default: False)
        Whether evaluated rounds are shown on standard error.
    **options
        Arguments of `lasg_flwr.LasgConfig`: ``rule``, ``codec``, ``memory``,
        ``server_memory``, ``step``, ``weights``, ``seed`` and so on.

    Returns
    -------
    SimulationResult
        The last θ, the ledger, and both sides' states.

    Raises
    ------
    ValueError
        For bad arguments; see also the errors of `LasgServer` and `LasgWorker`.
    TypeError
        For an unknown option, or an oracle that is none.

    Examples
    --------
    >>> import numpy as np
    >>> from lasg_flwr import Oracle
    >>> class Quadratic(Oracle):
    ...     num_examples = 1
    ...     def __init__(self, centre):
    ...         self.centre = np.float32(centre)
    ...     def draw(self, rng):
    ...         return None
    ...     def gradient(self, theta, batch):
    ...         return theta - self.centre
    >>> result = simulate(
    ...     [Quadratic([0, 2]), Quadratic([4, 2])],
    ...     np.zeros(2),
    ...     rounds=200,
    ...     rule="wk2",
    ...     step=0.1,
    ... )
    >>> result.theta.round(2).tolist(), result.ledger.uploads < 2 * 200
    ([2.0, 2.0], True)
    """
    if not oracles:
        raise ValueError("simulate needs at least one oracle")
    rounds = whole("rounds", rounds)
    given = range(len(oracles)) if keys is None else keys
    keys = [whole("a key", key, most=U64 - 1) for key in given]
    if len(keys) != len(oracles) or len(set(keys)) != len(oracles):
        raise DuplicateKeyError(
            f"{len(oracles)} oracles need as many distinct keys, got {list(keys)!r}"
        )
    pairs, reached = zip(oracles, keys, strict=True), Reached()
    workers = [LasgWorker(oracle, key, None, reached) for oracle, key in pairs]
    server = LasgServer(theta, config_from(config, options), buffers=buffers, form=form)
    answers = Answers(workers, server, batched, batched_gradient)
    order = sorted(range(len(workers)), key=lambda i: workers[i].key)
    for i in order:
        server.introduce(i, workers[i].key, workers[i].oracle.num_examples)
    if evaluate is None and evaluate_every is not None:
        evaluate = _evaluated_by(workers, server)
    recorder = Recorder(evaluate, evaluate_every, rounds, progress)
    for k in range(rounds):
        nodes = order if sample is None else _in_order(order, sample(k))
        requests = server.open_round(nodes)
        answers.take(requests)
        report = server.close_round()
        recorder.add(server.theta, server.ledger)
        if callback is not None and callback(server, report):
            break
    in_order = [workers[i] for i in order]
    return SimulationResult(
        server.theta, server, in_order, recorder.history, answers.not_batched
    )


def _evaluated_by(workers: Sequence[LasgWorker], server: LasgServer) -> Evaluate:
    """Return the mean of the oracles' own evaluations."""

    def evaluate(theta: F32) -> dict[str, float]:
        oracles = [worker.oracle for worker in workers]
        for oracle in oracles:
            oracle.load_buffers(server.buffers)
        return mean_evaluation(oracle.evaluate(theta) for oracle in oracles)

    return evaluate


def _in_order(order: Sequence[int], reachable: Sequence[int]) -> list[int]:
    chosen = set(reachable)
    if unknown := chosen - set(order):
        raise ValueError(f"sample() gave positions of no worker: {sorted(unknown)}")
    return [i for i in order if i in chosen]
