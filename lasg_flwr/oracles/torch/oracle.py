"""A gradient oracle around any PyTorch model."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ...checks import real
from ...errors import NotTogetherError
from ...vectors import F32, frozen
from ..base import BatchedGradient, Oracle
from .data import examples_of, hits, last_is_target, moved
from .model import TorchModel
from .seed import seeded
from .together import Together

Loss = Callable[[Any, Any], Tensor]
Forward = Callable[[nn.Module, Any], tuple[Any, Any]]


class Batch(NamedTuple):
    """A drawn batch: which examples, and the seed of all that is random in them.

    Attributes
    ----------
    indices : ndarray, shape (b,), int64
        Examples, without replacement.
    seed : int
        Seeds dropout, augmentation and any other draw of the forward pass.
    """

    indices: NDArray[np.int64]
    seed: int


class TorchOracle(Oracle):
    """One worker's loss: a PyTorch model on its own data; a `lasg_flwr.Oracle`.

    g(θ; ξ) = ∇ (1/b) Σ_{i ∈ ξ} ℓ(θ; x_i, y_i) + λθ for a batch ξ of b examples. Two
    calls with the same θ, buffers and batch give the same bits: dropout masks and
    augmentation are drawn from generators seeded by the batch, and modules run in the
    training or evaluation mode that they were given in. Where buffers have a part in
    the gradient, `load_buffers` comes before it, as workers do. On a GPU all this holds
    for deterministic kernels only (see ``torch.use_deterministic_algorithms``).

    Parameters
    ----------
    model : nn.Module
        The model. θ^0 is what it holds now. The oracle moves it to the device and then
        uses it as scratch space; oracles of one process may share it.
    loss : callable
        ``loss(output, target)``, the mean over the batch, a scalar.
    data : Dataset or DataLoader
        Training examples ``(input, target)``. Of a loader the data set, batch size and
        ``collate_fn`` count.
    batch_size : int, optional
        b; left out, the loader's. No more than there are examples are drawn.
    weight_decay : float (default: 0.0)
        λ of λ/2 ‖θ‖² over all trainable parameters, that is PyTorch's coupled
        ``weight_decay``, not AdamW's.
    test : Dataset or DataLoader, optional
        What `evaluate` uses.
    device : str or torch.device, optional
        Left out, an accelerator if there is one, else the CPU.
    forward : callable, optional
        ``forward(model, batch) -> (output, target)`` for batches that are not
        ``(input, ..., target)``.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The initial model, by the names of its ``state_dict()``: what a strategy starts
        with.
    layout : Layout
        Which of them are parameters, buffers and integers.

    Raises
    ------
    ValueError
        If there are no examples or nothing to train, or a number is out of range.
    TypeError
        If the data cannot be indexed, `model` is a class, or `loss` is not callable.

    Notes
    -----
    θ, buffers and integers are the parts of ``model.state_dict()``, as
    `lasg_flwr.layout.Layout` has them. Parameters that need no gradient are part of θ
    and have gradient 0. A parameter with two names is in θ twice, and the last name
    counts. Models in half precision have a float32 θ, rounded as it is loaded.

    Examples
    --------
    >>> from torch.utils.data import TensorDataset
    >>> data = TensorDataset(torch.eye(3), torch.tensor([0, 1, 0]))
    >>> loss = nn.functional.cross_entropy
    >>> oracle = TorchOracle(nn.Linear(3, 2), loss, data, batch_size=2)
    >>> batch = oracle.draw(np.random.default_rng(0))
    >>> oracle.gradient(oracle.theta(), batch).shape
    (8,)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Dataset[Any] | DataLoader[Any],
        batch_size: int | None = None,
        *,
        weight_decay: float = 0.0,
        test: Dataset[Any] | DataLoader[Any] | None = None,
        device: str | torch.device | None = None,
        forward: Forward | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module object, got {model!r}")
        if not callable(loss):
            raise TypeError(
                f"loss must be callable as loss(output, target), got {loss!r}: pass "
                "torch.nn.functional.cross_entropy, for example"
            )
        if isinstance(loss, type):
            raise TypeError(f"loss is a class: pass an object, {loss.__name__}()")
        weight_decay = real("weight_decay", weight_decay, least=0)
        self.device = found_device() if device is None else torch.device(device)
        self.model = TorchModel(model, self.device)
        self._examples = examples_of(data, batch_size, self.device)
        self._test = test
        self.loss, self._forward = loss, forward or last_is_target
        self.weight_decay = weight_decay
        self.arrays, self.layout = self.model.arrays, self.model.layout

    @property
    def num_examples(self) -> int:
        """Number of training examples."""
        return len(self._examples)

    @property
    def size(self) -> int:
        """Length p of θ."""
        return self.layout.size

    @property
    def batch_size(self) -> int:
        """Examples a batch."""
        return self._examples.batch_size

    @property
    def buffer_names(self) -> tuple[str, ...]:
        """Names of the buffers, for a strategy's ``buffers``."""
        return tuple(e.name for e in self.layout.entries if e.kind == "buffer")

    def theta(self) -> F32:
        """Return θ^0, to start `lasg_flwr.simulate` with."""
        return self.layout.flatten(self.arrays, "parameter")

    def state_dict(self, theta: F32, buffers: F32 | None = None) -> dict[str, Tensor]:
        """Return θ as the model's state: ``model.load_state_dict(...)`` takes it.

        `buffers` are those of a run, ``result.server.buffers``; left out, what the
        oracle's own are now.
        """
        values = self.buffers() if buffers is None else buffers
        integers = self.layout.integers(self.arrays)
        arrays = self.layout.unflatten(theta, values, integers)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def load_buffers(self, values: F32) -> None:
        """Set the buffers; integers, such as BatchNorm's counters, start anew.

        Raises
        ------
        ValueError
            If there are more or fewer values than the model has buffers.
        """
        self.model.load_buffers(values)

    def buffers(self) -> F32:
        """Return the buffers: at first the model's own, then as a gradient left them.

        Start `lasg_flwr.simulate` with them (``buffers=oracle.buffers()``).
        """
        return self.model.buffers()

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw a batch without replacement, and its seed."""
        return self.draw_batch(rng, self.batch_size)

    def draw_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw a batch of `size` examples, as `ScheduledBatches` asks for them."""
        indices = rng.choice(self.num_examples, size, replace=False, shuffle=False)
        return Batch(indices, int(rng.integers(1 << 63)))

    def halves(self, batch: Batch) -> tuple[Batch, Batch]:
        """Halve the indices."""
        a, b = super().halves(batch.indices)
        return batch._replace(indices=a), batch._replace(indices=b)

    def gradient(self, theta: F32, batch: Batch) -> F32:
        """Return the gradient at θ on the batch, float32 and read-only.

        Raises
        ------
        ValueError
            If θ does not fit the model, or the loss is not a scalar.
        """
        self.model.load(theta)
        with seeded(batch.seed, self.device), torch.enable_grad():
            loss = self._batch_loss(self._examples.fetch(batch.indices))
            gradient = self.model.gradient_of(loss)
        if self.weight_decay:
            self.model.add_decay(gradient, theta, self.weight_decay)
        return frozen(gradient)

    def together(self, oracles: Sequence[Oracle]) -> BatchedGradient:
        """Return what computes the gradients of oracles that share this module.

        Raises
        ------
        NotTogetherError
            If it cannot be done for them, see `lasg_flwr.oracles.torch.together`.
        """
        others = [o for o in oracles if isinstance(o, TorchOracle)]
        own = type(self).gradient is TorchOracle.gradient
        if len(others) < len(oracles) or not own:
            raise NotTogetherError("some oracles have a gradient of their own")
        return Together(others)

    def shares_all_but_data(self, other: "TorchOracle") -> bool:
        """Return whether module, loss, decay and device are the other's."""
        return (
            self.model.module is other.model.module
            and self.loss is other.loss
            and self.weight_decay == other.weight_decay
            and self.device == other.device
        )

    def form_of_examples(self) -> tuple[Any, ...] | None:
        """Return shapes and types of an example; None if it is not tensors alone."""
        return self._examples.form() if self._forward is last_is_target else None

    def examples(self, batch: Batch) -> Any:
        """Return the examples of a drawn batch."""
        return self._examples.fetch(batch.indices)

    def evaluate(self, theta: F32) -> tuple[float, int, dict[str, float]]:
        """Return (mean loss, examples, metrics) on the test data, without decay.

        Metrics hold ``accuracy`` where targets are classes.

        Raises
        ------
        ValueError
            If the oracle has no test data.
        """
        if self._test is None:
            raise ValueError(
                "this oracle has no test data: pass test=... to it, or "
                "fraction_evaluate=0.0 to the strategy"
            )
        return self.evaluate_on(theta, self._test)

    def evaluate_on(
        self, theta: F32, data: Dataset[Any] | DataLoader[Any], batch_size: int = 500
    ) -> tuple[float, int, dict[str, float]]:
        """Return what `evaluate` does, on other data and in batches of that size."""
        size = None if isinstance(data, DataLoader) else batch_size
        examples = examples_of(data, size, self.device)
        self.model.load(theta)
        total, correct, judged = 0.0, 0, 0
        with self.model.evaluating(), seeded(0, self.device), torch.no_grad():
            for start in range(0, len(examples), examples.batch_size):
                stop = min(start + examples.batch_size, len(examples))
                batch = examples.fetch(np.arange(start, stop))
                output, target = self._outputs(batch)
                total += (stop - start) * float(self.loss(output, target))
                right, of = hits(output, target, self.loss)
                correct, judged = correct + right, judged + of
        metrics = {"accuracy": correct / judged} if judged else {}
        return total / len(examples), len(examples), metrics

    def _outputs(self, batch: Any) -> tuple[Any, Any]:
        return self._forward(self.model.module, moved(batch, self.device))

    def _batch_loss(self, batch: Any) -> Tensor:
        loss = self.loss(*self._outputs(batch))
        if loss.numel() != 1:
            wrong = f"the loss has shape {tuple(loss.shape)}, expected a scalar"
            raise ValueError(f"{wrong}: use reduction='mean'")
        return loss


def found_device() -> torch.device:
    """Return the accelerator of this machine (cuda, mps, ...), or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
