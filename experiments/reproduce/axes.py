"""What a panel of a plot can show."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """What an axis shows: a column of ``curves.csv`` times a factor."""

    column: str
    label: str
    log: bool = False
    factor: float = 1.0


AXES: Mapping[str, Axis] = {
    "iterations": Axis("iteration", "iteration"),
    "epochs": Axis("iteration", "epoch", factor=0.1),
    "uploads": Axis("uploads", "uploads (messages)", log=True),
    "upload_count": Axis("uploads", "uploads so far (messages)"),
    "upload_rate": Axis("upload_rate", "share of workers that upload"),
    "bits": Axis("uplink_bytes", "uplink payload (bits)", log=True, factor=8.0),
    "bytes": Axis("uplink_bytes", "uplink payload (bytes)", log=True),
    "loss": Axis("loss", "training loss", log=True),
    "accuracy": Axis("accuracy", "test accuracy (logit scale)"),
}
