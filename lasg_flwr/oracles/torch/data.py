"""Batches of a PyTorch data set, by the indices of their examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
)
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from ...checks import whole


@dataclass(frozen=True)
class Examples:
    """A data set that can be asked for any batch.

    Attributes
    ----------
    dataset : Dataset
        Has a length and takes an index.
    batch_size : int
        Examples a batch, at most ``len(dataset)``.
    collate : callable
        Makes a batch out of a list of examples.
    tensors : tuple of Tensor, optional
        The whole data set, where it is a `TensorDataset`: indexed at once.
    """

    dataset: Dataset[Any]
    batch_size: int
    collate: Callable[[list[Any]], Any]
    tensors: tuple[Tensor, ...] | None

    def __len__(self) -> int:
        """Return the number of examples."""
        return _length(self.dataset)

    def form(self) -> tuple[Any, ...] | None:
        """Return shapes and types of one example's tensors; None if it has none."""
        if self.tensors is None:
            return None
        return tuple((t.shape[1:], t.dtype) for t in self.tensors)

    def fetch(self, indices: NDArray[np.int64]) -> Any:
        """Return the batch of the examples `indices`."""
        if self.tensors is not None:
            at = torch.from_numpy(indices).to(self.tensors[0].device)
            return tuple(tensor[at] for tensor in self.tensors)
        wanted = indices.tolist()
        get_many = getattr(self.dataset, "__getitems__", None)
        if get_many is not None:
            return self.collate(get_many(wanted))
        return self.collate([self.dataset[i] for i in wanted])


def examples_of(
    data: Dataset[Any] | DataLoader[Any], batch_size: int | None, device: torch.device
) -> Examples:
    """Read a data set, or what a loader would read, batch by batch.

    Of a `DataLoader` its data set, batch size and ``collate_fn`` count; batches are
    drawn by the oracle, in this process.

    Raises
    ------
    TypeError
        If the data cannot be indexed, or the loader samples in a way of its own.
    ValueError
        If there are no examples, or the batch size does not fit.
    """
    collate: Callable[[list[Any]], Any] = default_collate
    if isinstance(data, DataLoader):
        _check_sampler(data)
        batch_size = data.batch_size if batch_size is None else batch_size
        collate, data = data.collate_fn, data.dataset
    size = _checked_size(data, batch_size)
    tensors = None
    if type(data) is TensorDataset and collate is default_collate:
        tensors = tuple(tensor.to(device) for tensor in data.tensors)
    return Examples(data, size, collate, tensors)


def _check_sampler(loader: DataLoader[Any]) -> None:
    sampler = loader.sampler
    random = type(sampler) is RandomSampler and not sampler.replacement
    if loader.batch_size is None or not (random or type(sampler) is SequentialSampler):
        raise TypeError(
            f"a DataLoader with the sampler {type(sampler).__name__} and batch_size="
            f"{loader.batch_size!r} draws in a way of its own, which cannot be "
            "repeated: pass its dataset and a batch_size instead"
        )


def _checked_size(data: Dataset[Any], batch_size: int | None) -> int:
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise TypeError(
            f"{type(data).__name__} has no length or takes no index, so that the same "
            "batch cannot be drawn twice: pass a map-style Dataset"
        )
    examples = _length(data)
    if examples == 0:
        raise ValueError("the data set is empty: leave workers without data out")
    if batch_size is None:
        raise ValueError("a Dataset needs a batch_size: pass one, or a DataLoader")
    return min(whole("batch_size", batch_size, least=1), examples)


def _length(data: Dataset[Any]) -> int:
    return len(data)  # type: ignore[arg-type]


def last_is_target(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Return output and target of a batch ``(input, ..., target)``."""
    if not isinstance(batch, Sequence) or len(batch) < 2:
        raise TypeError(
            f"a batch is a {type(batch).__name__}, expected (input, ..., target): pass "
            "forward=... to say what is what"
        )
    return model(*batch[:-1]), batch[-1]


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch with all its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [moved(value, device) for value in batch]
    return batch


def hits(output: Any, target: Any, loss: Any = None) -> tuple[int, int]:
    """Return how many classes are right, of how many; (0, 0) where there are none.

    Targets are classes, of as many as the second axis of the output is long; where it
    has length 1 they are 0 or 1, and the output is a logit, or the probability of 1 if
    that is what the loss takes.

    Examples
    --------
    >>> logits, probabilities = torch.tensor([[-2.0], [0.4]]), torch.tensor([0.2, 0.4])
    >>> hits(logits, torch.tensor([0, 1])), hits(logits, torch.tensor([[1.0], [1.0]]))
    ((2, 2), (0, 0))
    >>> hits(probabilities, torch.tensor([0.0, 1.0]), nn.BCELoss())
    (1, 2)
    """
    if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
        return 0, 0
    if _is_binary(output, target, loss):
        probability = isinstance(loss, nn.BCELoss) or loss is binary_cross_entropy
        chosen = output.reshape(-1) > (0.5 if probability else 0.0)
        return int((chosen == target.reshape(-1).bool()).sum()), target.numel()
    if target.is_floating_point() or output.dim() != target.dim() + 1:
        return 0, 0
    return int((output.argmax(1) == target).sum()), target.numel()


def _is_binary(output: Tensor, target: Tensor, loss: Any) -> bool:
    """Return whether there is one output, and a target of 0 or 1, for each example."""
    one = output.numel() == target.numel() == len(output)
    known = isinstance(loss, nn.BCELoss | nn.BCEWithLogitsLoss) or loss in (
        binary_cross_entropy,
        binary_cross_entropy_with_logits,
    )
    is_class = known or (not target.is_floating_point() and output.dim() == 2)
    return one and is_class and bool(((target == 0) | (target == 1)).all())
