"""Examples of every codec, and their worst-case vectors."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lasg_flwr.codecs import ECSQ, QSGD, Codec, TopKQSGD, Uniform, codec_from, wire
from lasg_flwr.codecs.coding import range_coder
from lasg_flwr.vectors import F32

EXAMPLES = (
    "dense",
    "qsgd",
    "qsgd:bits=2",
    "qsgd:bits=3,bucket=7",
    "qsgd:bits=4,bucket=0,norm=l2",
    "qsgd:bits=2,bucket=16,norm=l2",
    "qsgd:bits=8,bucket=100,entropy=raw",
    "qsgd:bits=16,bucket=0",
    "qsgd:bits=4,entropy=range",
    "uniform",
    "uniform:bits=2",
    "uniform:bits=8",
    "uniform:bits=11,entropy=range",
    "sign",
    "sign:entropy=range",
    "natural",
    "natural:entropy=range",
    "float16",
    "ecsq",
    "ecsq:error=0.01",
    "ecsq:error=0.9",
    "ecsq:bits=0.01",
    "ecsq:error=0.2,least_bits=0.5,rounds=3",
    "topk",
    "topk:k=3",
    "topk:fraction=1.0",
    "randk:k=3",
    "randk:fraction=0.3",
    "topk-qsgd:k=5",
    "topk-qsgd:fraction=0.5,bits=3,bucket=4",
    "topk-qsgd:fraction=1.0,bits=4,entropy=range",
)

needs_range_coder = pytest.mark.skipif(
    not range_coder.available, reason="needs the extra 'entropy' (constriction)"
)


def cases(specs: tuple[str, ...] = EXAMPLES) -> list[Any]:
    """Return the examples as parameters; those with a range coder may be skipped."""
    return [
        pytest.param(
            codec_from(spec),
            id=spec,
            marks=[needs_range_coder] if "range" in spec else [],
        )
        for spec in specs
    ]


def keyed_rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def decode_encoded(codec: Codec, x: F32, seed: int = 0) -> F32:
    return wire.decode(wire.encode(codec, x, keyed_rng(seed)), codec, x.size)


def deterministic_constant(codec: Codec, size: int) -> float:
    """Return the declared bound on E‖C(x) − x‖²/‖x‖²."""
    alpha, omega = codec.alpha(size), codec.omega(size)
    if alpha is not None:
        return 1 - alpha
    assert omega is not None, "a codec declares alpha or omega"
    return omega


def worst_case(codec: Codec, size: int) -> F32:
    """Return a vector for which the declared constant is reached."""
    x = np.ones(size, np.float32)
    if isinstance(codec, QSGD | TopKQSGD):
        quantizer = codec if isinstance(codec, QSGD) else codec.quantizer
        p, s = min(size, quantizer.bucket or size), quantizer.levels
        if quantizer.norm == "max" and p > 1:
            a = s**2 / (p - 1)
            x[:] = (sqrt(a * a + a) - a) / s
            x[0], x[p:] = 1, 0
    elif isinstance(codec, Uniform):
        x[1:] = 0.5 / (2 ** (codec.bits - 1) - 1)
    elif codec.name == "sign":
        x[1:] = 0
    elif codec.name == "natural":
        x[:] = 4 / 3
    elif isinstance(codec, ECSQ):
        x[:] = np.random.default_rng(0).standard_normal(size)
    elif codec.name == "float16":
        x[:] = 1 + 2.0**-11
    return x


def vectors(size: int, seed: int = 0) -> dict[str, F32]:
    """Return random vectors of several kinds."""
    rng = np.random.default_rng(seed)
    sparse = rng.standard_normal(size) * (rng.random(size) < 0.1)
    return {
        "normal": rng.standard_normal(size).astype(np.float32),
        "heavy": (rng.standard_cauchy(size) * 1e-3).astype(np.float32),
        "sparse": sparse.astype(np.float32),
        "tiny": (rng.standard_normal(size) * 1e-30).astype(np.float32),
        "flat": np.sign(rng.standard_normal(size)).astype(np.float32),
    }


def edge_vectors() -> dict[str, F32]:
    """Return vectors that trip codecs."""
    huge = np.full(9, 1e-3, np.float32)
    huge[4] = -np.finfo(np.float32).max
    found: dict[str, NDArray[Any]] = {
        "length 0": np.zeros(0, np.float32),
        "length 1": np.array([-2.5]),
        "length 1, zero": np.zeros(1, np.float32),
        "norm 0": np.zeros(600, np.float32),
        "minus zero": np.full(5, -0.0, np.float32),
        "one huge": huge,
        "all huge": np.full(700, np.finfo(np.float32).max, np.float32),
        "denormal": np.arange(-3, 4).astype(np.float32) * np.float32(1.4e-45),
        "denormals and one": np.array([1e-45, -1e-40, 1.0, 3e-39]),
        "smallest normal": np.full(3, 2.0**-126, np.float32),
    }
    rng = np.random.default_rng(1)
    for size in (2, 3, 8, 9, 511, 513, 1030):
        found[f"length {size}"] = rng.standard_normal(size).astype(np.float32)
    return {name: np.asarray(x, np.float32) for name, x in found.items()}
