"""What a worker must offer: draw a batch, and the gradient at a point on that batch."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .vectors import F32, NO_BUFFERS


@runtime_checkable
class Oracle(Protocol):
    """The loss of one worker, seen through minibatch gradients.

    An oracle must be deterministic: the same θ and batch give the same gradient to
    the bit, and the same generator state draws the same batch. It keeps no state
    that matters between rounds.

    An oracle may also offer (each is looked up by name and used if there):

    - ``configure(config)``: is given the server's ``train_config`` before a round;
    - ``start_round(k)``: is given the server's round counter k before ``draw``, or the
      local iteration t = kH + h before each draw inside `lasg_flwr.local.LocalSteps`;
    - ``draw_batch(rng, size)``: draws that many examples, see `lasg_flwr.growing`;
    - ``metrics()``: a dict of numbers about the last gradient, sent with the reply;
    - ``evaluate(theta)``: ``(loss, num_examples, metrics)`` on local test data, with
      the buffers that were loaded last;
    - ``gradients_per_call``: minibatch gradients that one call computes (default 1);
    - ``size``: the length p of θ, so that a wrong one is refused up front;
    - ``load_buffers(values)`` and ``buffers()``: take over the server's buffers, such
      as BatchNorm statistics, as a read-only float32 vector, and return what they are
      now, in a vector of the same length. They are loaded before each gradient and
      each evaluation; an upload carries what the gradient at θ^k made of them, and the
      server averages that as values. Neither must cost more than a copy.
    """

    @property
    def num_examples(self) -> int:
        """Number of training examples, at least 1."""

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw the batch ξ of a round.

        All randomness must come from `rng`, which is good for this call only.
        """

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
            A new array; it is kept, not copied.
        """


class OracleWrapper:
    """An oracle around another: whatever it does not define itself is the other's.

    So `size`, `evaluate`, `buffers` and all else that an `Oracle` may offer pass
    through, and are missing where the inner oracle has none. Only `draw_batch` does
    not: what a wrapper draws need not be what the inner oracle draws.

    Attributes
    ----------
    oracle : Oracle
        The inner one.
    """

    oracle: Oracle

    def __getattr__(self, name: str) -> Any:
        """Return what the inner oracle has under this name."""
        own = name in ("oracle", "draw_batch")
        if own or name.startswith("_"):  # also of a copy that is not made yet
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self.oracle, name)


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
    for name in ("num_examples", "draw", "gradient"):
        if not hasattr(oracle, name):
            raise TypeError(
                f"{type(oracle).__name__} is no oracle: it has no {name!r}; see "
                "lasg_flwr.Oracle for what is needed"
            )
    examples: Any = oracle.num_examples
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


def check_form(gradient: Any, theta: F32, key: int) -> None:
    """Raise ValueError unless `gradient` is one at `theta`, by its form."""
    if not isinstance(gradient, np.ndarray):
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


def buffers_of(oracle: Oracle, expected: F32, key: int) -> F32:
    """Return a copy of an oracle's buffers; none where it does not know of any.

    Raises
    ------
    ValueError
        If they are not as many as the server's, `expected`.
    """
    if not hasattr(oracle, "buffers"):
        return NO_BUFFERS
    values = np.array(oracle.buffers(), np.float32)
    if values.shape != expected.shape:
        raise ValueError(
            f"the oracle of worker {key} has buffers of shape {values.shape}, the "
            f"server's have {expected.shape}: hand the model's buffers to the server "
            "as well, as with simulate(..., buffers=oracle.buffers()), or start the "
            "strategy with ArrayRecord(model.state_dict())"
        )
    return values
