"""How large a minibatch is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """Size of a worker's minibatch: a fixed number, or a share of its examples."""

    size: int | None = None
    fraction: float | None = None

    def of(self, examples: int) -> int:
        """Return the minibatch size of a worker with so many examples.

        Examples
        --------
        >>> Batch(fraction=0.01).of(1155), Batch(size=8).of(150)
        (12, 8)
        """
        if self.size is not None:
            return min(self.size, examples)
        return max(1, min(examples, round((self.fraction or 1.0) * examples)))
