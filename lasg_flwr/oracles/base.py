"""What a worker must offer: draw a batch, and the gradient at a point on that batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..checks import MOST_EVALUATIONS, MOST_EXAMPLES, whole
from ..errors import LasgError, NotTogetherError
from ..vectors import F32, NO_BUFFERS, frozen


class Oracle(ABC):
    """The loss of one worker, seen through minibatch gradients.

    Derive from it and give it ``num_examples``, `draw` and `gradient`; the other
    members have defaults. A member whose name nearly is one of these is an error, as it
    would never be called.

    An oracle must be deterministic: the same θ and batch give the same gradient to
    the bit, and the same generator state draws the same batch. It keeps no state
    that matters between rounds.

    Attributes
    ----------
    num_examples : int
        Number of training examples, at least 1.
    size : int or None (default: None)
        Length p of θ, so that a wrong one is refused up front.
    gradients_per_call : int (default: 1)
        Minibatch gradients that one call of `gradient` computes.
    """

    if TYPE_CHECKING:  # at run time they may be attributes or properties

        @property
        def num_examples(self) -> int:
            """Number of training examples."""

        @property
        def size(self) -> int | None:
            """Length p of θ."""

        @property
        def gradients_per_call(self) -> int:
            """Minibatch gradients that one call computes."""

    else:
        size = None
        gradients_per_call = 1

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Any:
        """Draw the batch ξ of a round.

        All randomness must come from `rng`, which is good for this call only.
        """

    @abstractmethod
    def gradient(self, theta: F32, batch: Any) -> F32:
        """Return ∇ℓ(θ; ξ), the gradient of the *mean* loss over the batch.

        Parameters
        ----------
        theta : ndarray, shape (p,), float32
            Where; read-only.
        batch : object
            What `draw` returned.

        Returns
        -------
        ndarray, shape (p,), float32
            It is copied: the oracle may fill one array every time.
        """

    def configure(self, config: dict[str, Any]) -> None:  # noqa: B027
        """Take the server's ``train_config`` of a round, before `draw`.

        A gradient at an older iterate comes first, and under the config of that
        iterate's round, with ``"lasg-older-iterate"`` in it.
        """

    def start_round(self, k: int) -> None:  # noqa: B027
        """Take the server's round counter k before `draw`.

        Inside `LocalSteps` it is the local iteration t = kH + h before each draw.
        """

    def draw_batch(self, rng: np.random.Generator, size: int) -> Any:
        """Draw that many examples, see `lasg_flwr.oracles.batches`.

        Raises
        ------
        TypeError
            If the oracle cannot, as by default.
        """
        raise TypeError(
            f"{type(self).__name__} cannot draw minibatches of a given size: give it a "
            "method draw_batch(rng, size); local steps go around growing batches, as "
            "in LocalSteps(ScheduledBatches(oracle, schedule), ...)"
        )

    def halves(self, batch: Any) -> tuple[Any, Any]:
        """Return two batches without a common example that make up `batch`.

        Raises
        ------
        TypeError
            If the oracle cannot; by default it can for an array of two indices or more.
        """
        if not isinstance(batch, np.ndarray) or batch.ndim != 1 or batch.size < 2:
            raise TypeError(
                f"{type(self).__name__} cannot halve this batch: draw two examples or "
                "more, give the oracle a method halves(batch), or leave halves out of "
                "the rule"
            )
        middle = batch.size // 2
        return batch[:middle], batch[middle:]

    def metrics(self) -> Mapping[str, Any]:
        """Return numbers about the last gradient, sent with the reply."""
        return {}

    def evaluate(self, theta: F32) -> tuple[float, int, Mapping[str, Any]]:
        """Return ``(loss, num_examples, metrics)`` on local test data.

        The buffers are those that were loaded last.

        Raises
        ------
        LasgError
            If the oracle cannot evaluate, as by default.
        """
        raise LasgError(
            f"{type(self).__name__} cannot evaluate: give it evaluate(theta), pass "
            "evaluate=... to LasgNumPyClient, or fraction_evaluate=0.0 to the strategy"
        )

    def load_buffers(self, values: F32) -> None:  # noqa: B027
        """Take over the server's buffers, such as BatchNorm statistics.

        Called before each gradient and each evaluation; must cost no more than a copy.

        Parameters
        ----------
        values : ndarray, shape (B,), float32
            The buffers, read-only.
        """

    def buffers(self) -> F32 | None:
        """Return what the buffers are now; None if the model has none to speak of.

        An upload carries what the gradient at θ^k made of them, and the server averages
        that as values.
        """
        return None

    def together(self, oracles: "Sequence[Oracle]") -> "BatchedGradient":
        """Return what computes gradients of many oracles in one call.

        Parameters
        ----------
        oracles : sequence of Oracle
            Those of all workers, this one among them.

        Raises
        ------
        NotTogetherError
            If each must compute its own, as by default.
        """
        raise NotTogetherError(f"a {type(self).__name__} computes its own gradient")

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name, value in vars(cls).items():
            known = name.startswith("_") or hasattr(Oracle, name) or name in _ANNOTATED
            if known or not isinstance(value, FunctionType | property | int):
                continue
            if close := get_close_matches(name, _MEMBERS, 1, 0.85):
                raise TypeError(
                    f"{cls.__name__}.{name} is no member of an oracle and would never "
                    f"be called: did you mean {close[0]!r}? If not, choose a name "
                    "that is less like it"
                )


_ANNOTATED = ("num_examples", "size", "gradients_per_call")
_MEMBERS = [*_ANNOTATED, *(n for n in vars(Oracle) if not n.startswith("_"))]


def overrides(oracle: Oracle, name: str) -> bool:
    """Return whether an oracle has a member of its own in place of the default."""
    return getattr(type(oracle), name) is not getattr(Oracle, name)


class BatchedGradient(Protocol):
    """Gradients of many workers in one call, for the in-process engine."""

    def __call__(
        self, workers: Sequence[int], thetas: Sequence[F32], batches: Sequence[Any]
    ) -> Sequence[F32]:
        """Return one gradient for each (worker, θ, batch).

        Parameters
        ----------
        workers : sequence of int
            Positions of the workers' oracles; one may occur twice.
        thetas : sequence of ndarray, shape (p,)
            Where each gradient is wanted; often the same object.
        batches : sequence of object
            What the workers' oracles drew.
        """


def check_oracle(oracle: Oracle) -> None:
    """Raise ValueError or TypeError if `oracle` cannot serve a worker."""
    if not isinstance(oracle, Oracle):
        raise TypeError(
            f"{type(oracle).__name__} is no oracle: derive it from lasg_flwr.Oracle, "
            "which says what is needed"
        )
    examples: Any = getattr(oracle, "num_examples", None)
    if isinstance(examples, bool) or not isinstance(examples, Integral):
        raise TypeError(
            f"num_examples must be an integer, got {examples!r}: make it an attribute "
            "or a property"
        )
    if examples < 1:
        raise ValueError(
            f"the oracle has num_examples={oracle.num_examples}: a worker needs at "
            "least one training example; leave workers without data out"
        )
    whole("num_examples", examples, least=1, most=MOST_EXAMPLES)
    calls = oracle.gradients_per_call
    whole("gradients_per_call", calls, most=MOST_EVALUATIONS // 2)


def taken(gradient: Any, theta: F32, key: int, lasts: bool = True) -> F32:
    """Return a read-only copy of what an oracle computed at `theta`.

    An oracle may fill and return one array every time, or a view of another; what is
    kept is a contiguous array of the machine's own byte order. Unless it `lasts`, the
    oracle's own will do: it is encoded before the oracle is called again.

    Raises
    ------
    ValueError
        Unless it is a gradient at `theta`, by its form.
    """
    if type(gradient) is not np.ndarray and (
        not isinstance(gradient, np.ndarray) or isinstance(gradient, np.ma.MaskedArray)
    ):
        raise ValueError(
            f"the oracle of worker {key} returned a {type(gradient).__name__}, "
            "expected a NumPy array: convert it, as with tensor.numpy(force=True)"
        )
    if gradient.shape != theta.shape or gradient.dtype.char != "f":
        raise ValueError(
            f"the oracle of worker {key} returned a gradient of shape {gradient.shape} "
            f"and dtype {gradient.dtype}, expected {theta.shape} and float32: return "
            "g.astype(np.float32)"
        )
    flags = gradient.flags
    if gradient.dtype.isnative:
        if not lasts and flags.c_contiguous:
            return gradient
        if flags.owndata and not flags.writeable:
            return gradient  # nobody's to fill again: taken before
    return frozen(np.array(gradient, np.float32))


def buffers_of(oracle: Oracle, expected: F32, key: int) -> F32:
    """Return a copy of an oracle's buffers; none where it does not know of any.

    Raises
    ------
    ValueError
        If they are not as many as the server's, `expected`.
    """
    found = oracle.buffers()
    if found is None:
        return NO_BUFFERS
    values = np.array(found, np.float32)
    if values.shape != expected.shape:
        raise ValueError(
            f"the oracle of worker {key} has buffers of shape {values.shape}, the "
            f"server's have {expected.shape}: hand the model's buffers to the server "
            "as well, as with simulate(..., buffers=oracle.buffers()), or start the "
            "strategy with ArrayRecord(model.state_dict())"
        )
    return values
