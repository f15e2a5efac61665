"""The plot of `experiments.cnn_study`."""

from pathlib import Path
from typing import Any


def plot_study(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Plot."""
