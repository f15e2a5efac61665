"""PyTorch models as oracles."""

from .oracle import TorchOracle

__all__ = ["TorchOracle"]
