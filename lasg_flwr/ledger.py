"""What was sent, and what dense SGD would have sent."""

from collections import Counter
from dataclasses import dataclass, field


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
        Bytes of packed models sent for training.
    uplink_message_bytes, downlink_message_bytes : int
        Whole training messages as Flower counts them, see `lasg_flwr.flower.traffic`; 0
        outside Flower.
    gradient_evaluations : int
        Minibatch gradients that workers say they computed.
    sgd_uplink_bytes, sgd_downlink_bytes : int
        The same of dense SGD: 4 bytes a value and a header up, the packed model down,
        for every worker reachable in every round.
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
    uplink_message_bytes: int = 0
    downlink_message_bytes: int = 0
    gradient_evaluations: int = 0
    sgd_uplink_bytes: int = 0
    sgd_downlink_bytes: int = 0
    new_starts: int = 0

    def count_requests(
        self, reachable: int, sent: int, model_bytes: int, dense_upload_bytes: int
    ) -> None:
        """Count the requests of a round, and what dense SGD would move in it.

        Parameters
        ----------
        reachable : int
            Workers that the round could reach.
        sent : int
            Workers that it contacts.
        model_bytes : int
            Length of the packed model.
        dense_upload_bytes : int
            Length of a dense upload.
        """
        self.downloads += sent
        self.downlink_bytes += model_bytes * sent
        self.sgd_downlink_bytes += model_bytes * reachable
        self.sgd_uplink_bytes += dense_upload_bytes * reachable

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
