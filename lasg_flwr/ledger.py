"""What was sent, and what dense SGD would have sent."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass
class Ledger:
    """Counters of a run; bytes are lengths of bytes that were really encoded.

    Attributes
    ----------
    rounds : int
        Rounds closed.
    downloads : int
        Requests sent to workers for training.
    uploads : int
        Uploads accepted.
    skips : int
        Replies that said "reuse what you have".
    refused : Counter of str
        Replies that changed nothing, by reason.
    uplink_bytes : int
        Bytes of payloads and buffers received, refused ones included.
    downlink_bytes : int
        Bytes of packed models and steps sent for training.
    models : int
        Of the requests for training, those that carried the whole model.
    step_bytes : int
        Of the downlink bytes, those of steps.
    evaluation_bytes : int
        Bytes of packed models and steps sent for evaluation.
    uplink_message_bytes, downlink_message_bytes : int
        Whole messages, of training and of evaluation, as Flower counts them, see
        `lasg_flwr.flower.traffic`; 0 outside Flower.
    skip_message_bytes : int
        Of the uplink message bytes, those of training replies without an upload.
    evaluation_message_bytes : int
        Of the message bytes, those of evaluation, both ways.
    gradient_evaluations : int
        Minibatch gradients that workers say they computed.
    sgd_uplink_bytes, sgd_downlink_bytes : int
        The same of dense SGD: 4 bytes a value and a header up, the packed model down,
        for every worker reachable in every round.
    sgd_evaluation_bytes : int
        The packed model for each request for evaluation.
    new_starts : int
        Times that all workers were refreshed together (sum-only memory).
    """

    rounds: int = 0
    downloads: int = 0
    uploads: int = 0
    skips: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    models: int = 0
    step_bytes: int = 0
    evaluation_bytes: int = 0
    uplink_message_bytes: int = 0
    downlink_message_bytes: int = 0
    skip_message_bytes: int = 0
    evaluation_message_bytes: int = 0
    gradient_evaluations: int = 0
    sgd_uplink_bytes: int = 0
    sgd_downlink_bytes: int = 0
    sgd_evaluation_bytes: int = 0
    new_starts: int = 0

    @property
    def total_bytes(self) -> int:
        """Payload bytes of both directions, evaluation included."""
        return self.uplink_bytes + self.down_bytes

    @property
    def total_message_bytes(self) -> int:
        """Bytes of whole messages of both directions."""
        return self.uplink_message_bytes + self.downlink_message_bytes

    @property
    def down_bytes(self) -> int:
        """Payload bytes to the workers: models and steps, for evaluation as well."""
        return self.downlink_bytes + self.evaluation_bytes

    def count_requests(
        self,
        reachable: int,
        sent: Sequence[int | None],
        model_bytes: int,
        dense_upload_bytes: int,
    ) -> None:
        """Count the requests of a round, and what dense SGD would move in it.

        Parameters
        ----------
        reachable : int
            Workers that the round could reach.
        sent : sequence of int or None
            For each worker that it contacts, the length of the steps that it gets;
            None for the packed model.
        model_bytes : int
            Length of the packed model.
        dense_upload_bytes : int
            Length of a dense upload.
        """
        models = sum(length is None for length in sent)
        steps = sum(length for length in sent if length is not None)
        self.downloads += len(sent)
        self.models += models
        self.step_bytes += steps
        self.downlink_bytes += model_bytes * models + steps
        self.sgd_downlink_bytes += model_bytes * reachable
        self.sgd_uplink_bytes += dense_upload_bytes * reachable

    def count_evaluations(self, sent: Sequence[int | None], model_bytes: int) -> None:
        """Count requests for evaluation; arguments as in `count_requests`.

        Federated averaging sends the model once more for each of them.
        """
        self.sgd_evaluation_bytes += model_bytes * len(sent)
        self.evaluation_bytes += sum(
            model_bytes if length is None else length for length in sent
        )

    def as_metrics(self) -> dict[str, int]:
        """Return the counters as flat metrics, named ``lasg-...``.

        Examples
        --------
        >>> Ledger(uploads=3).as_metrics()["lasg-uploads"]
        3
        """
        flat: dict[str, int] = {}
        for name, value in vars(self).items():
            total = value.total() if isinstance(value, Counter) else value
            flat[f"lasg-{name.replace('_', '-')}"] = total
        return flat

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """Return a JSON-ready copy."""
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }


def human_bytes(n: float) -> str:
    """Write a number of bytes with three digits and a unit, 1 kB being 1000 bytes.

    Raises
    ------
    ValueError
        If `n` is negative or not finite.

    Examples
    --------
    >>> human_bytes(512)
    '512 B'
    >>> human_bytes(31_400)
    '31.4 kB'
    >>> human_bytes(1_372_304)
    '1.37 MB'
    >>> human_bytes(999_999)
    '1.00 MB'
    """
    if not (isfinite(n) and n >= 0):
        raise ValueError(f"a number of bytes is finite and not negative, got {n}")
    if n < 999.5:
        return f"{n:.0f} B"
    value, unit = float(n), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"
    return f"{digits} {_UNITS[unit]}"
