"""``python -m experiments benchmarks codecs``: speed and size of every codec."""

import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from lasg_flwr.codecs import codec_from, wire
from lasg_flwr.codecs.coding import backend
from lasg_flwr.vectors import F32

from .output import show, write_json

COORDINATES = 11_173_962
"""Parameters of a ResNet18 for ten classes."""

SPEED = (
    "qsgd:bits=4",
    "qsgd:bits=2",
    "qsgd:bits=8",
    "qsgd:bits=4,norm=l2",
    "uniform:bits=4",
    "sign",
    "natural",
    "float16",
    "topk:fraction=0.01",
    "topk-qsgd:fraction=0.01",
    "randk:fraction=0.01",
    "ecsq:error=0.3",
    "dense",
)
SIZE = (*SPEED, "qsgd:bits=4,bucket=0", "qsgd:bits=4,bucket=0,entropy=range")
_PACKAGES = ("numpy", "zstandard", "numba", "constriction")
ONE_STREAM = ("qsgd", "uniform", "sign", "natural")
"""Codecs whose payload, with one bucket, is one symbol a coordinate."""

GOALS = (
    "qsgd:bits=4: encode <= 6, decode <= 4; topk:fraction=0.01: encode <= 12; "
    "ecsq:error=0.3: encode <= 8, decode <= 5; dense: encode <= 4"
)


def codecs(
    coordinates: Annotated[int, typer.Option(min=1)] = COORDINATES,
    repeats: Annotated[int, typer.Option(min=1)] = 20,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    gradient: Annotated[
        Path | None, typer.Option(help=".npz of float32 gradients to measure sizes on")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Time encode and decode beside numpy.copy; sizes beside the entropy."""
    os.environ["LASG_THREADS"] = str(threads)
    x = np.random.default_rng(0).standard_normal(coordinates, np.float32)
    found: dict[str, Any] = {
        "command": "python -m experiments " + " ".join(sys.argv[1:]),
        "coordinates": coordinates,
        "repeats": repeats,
        "threads": threads,
        "versions": {n: version(n) for n in _PACKAGES if find_spec(n)},
        "load_average": os.getloadavg(),
        "speed": [],
        "size": [],
    }
    for fast in (True, False) if backend.available else (False,):
        backend.available = fast
        found["speed"] += [
            {"back_end": "numba" if fast else "numpy", **speed(spec, x, repeats)}
            for spec in SPEED
        ]
    backend.available = "numba" in found["versions"]
    for name, vector in _vectors(gradient).items():
        found["size"] += [{"vector": name, **size(spec, vector)} for spec in SIZE]
    show(f"speed: medians, beside numpy.copy; goals of the ratios: {GOALS}",
         found["speed"])  # fmt: skip
    show("size: bits a coordinate, header included", found["size"])
    write_json(json_file, found)


def speed(spec: str, x: F32, repeats: int) -> dict[str, Any]:
    """Time numpy.copy, encode and decode in turn; medians and their ratios."""
    codec, rng = codec_from(spec), np.random.default_rng(0)
    payload = wire.encode(codec, x, rng)
    timed = [
        (
            _seconds(lambda: np.copy(x)),
            _seconds(lambda: wire.encode(codec, x, rng)),
            _seconds(lambda: wire.decode(payload, codec, x.size)),
        )
        for _ in range(repeats + 1)
    ]
    copy, encode, decode = (median(t) for t in zip(*timed[1:], strict=True))
    return {
        "codec": spec,
        "copy_ms": 1e3 * copy,
        "encode_ms": 1e3 * encode,
        "decode_ms": 1e3 * decode,
        "encode_ratio": encode / copy,
        "decode_ratio": decode / copy,
        "bits_per_coordinate": 8 * len(payload) / x.size,
    }


def size(spec: str, x: F32) -> dict[str, Any]:
    """Return bits a coordinate, and the entropy where all are in one level stream."""
    codec = codec_from(spec)
    payload = wire.encode(codec, x, np.random.default_rng(0))
    bits = 8 * len(payload) / x.size
    quantized = codec.name in ONE_STREAM and getattr(codec, "bucket", 0) == 0
    entropy = None
    if quantized:
        entropy = entropy_per_coordinate(wire.decode(payload, codec, x.size))
    return {
        "codec": spec,
        "bits_per_coordinate": bits,
        "compression": 32 / bits,
        "value_entropy": entropy,
        "bits_over_entropy": bits / entropy if entropy else None,
    }


def entropy_per_coordinate(x: F32) -> float:
    """Return the entropy of the histogram of values, in bits a coordinate.

    Examples
    --------
    >>> entropy_per_coordinate(np.float32([0, 0, 1, 1]))
    1.0
    """
    _, counts = np.unique(x, return_counts=True)
    share = counts / x.size
    return float(-(share * np.log2(share)).sum())


def _vectors(gradient: Path | None) -> dict[str, F32]:
    rng = np.random.default_rng(0)
    found = {
        "normal": rng.standard_normal(1_000_000, np.float32),
        "student-t(2)": rng.standard_t(2, 1_000_000).astype(np.float32),
    }
    if gradient is not None:
        with np.load(gradient) as arrays:
            found |= {n: np.asarray(arrays[n], np.float32) for n in arrays.files}
    return found


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
