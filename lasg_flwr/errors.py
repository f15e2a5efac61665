"""Errors of this package; all derive from `LasgError`."""


class LasgError(Exception):
    """Base class of the errors of this package."""


class WireError(LasgError, ValueError):
    """Bytes from a peer that are not a valid message or payload."""


class CodecSizeError(LasgError, ValueError):
    """A codec keeps more coordinates than the model has."""


class NonFiniteGradientError(LasgError, ValueError):
    """An oracle returned a gradient with NaN or infinity."""


class NotTogetherError(LasgError, ValueError):
    """Gradients of several oracles cannot be computed in one call."""


class DuplicateKeyError(LasgError, ValueError):
    """Two workers claim the same key."""


class CheckpointError(LasgError, ValueError):
    """A checkpoint is damaged, or belongs to another model, rule or version."""


class StateInUseError(LasgError, RuntimeError):
    """Two processes use one worker's state, or one checkpoint, at the same time."""


class UnsafeFileError(LasgError, OSError):
    """A link, FIFO, device or folder is where a file of this package should be."""


class StateFolderError(LasgError, OSError):
    """There is no folder where a worker's state can be kept."""


class NoWorkersError(LasgError, RuntimeError):
    """Too few nodes are connected, and the strategy may not wait any longer."""


class CompositionError(LasgError, RuntimeError):
    """A wrapper or mod that does not compose with lazy aggregation is in use."""


class AllNodesFailedError(LasgError, RuntimeError):
    """Every node that was asked failed, for a cause that no further round can heal."""
