"""``python -m experiments benchmarks rate``: bits against error on real vectors."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lasg_flwr.codecs import ECSQ, codec_from, wire
from lasg_flwr.vectors import F32

from .output import clear_errors, show, write_json
from .plots.rate import plot_rate
from .rate_vectors import SOURCES, Sample

ECSQ_ERRORS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9)
OTHERS = (
    *("float16", "natural", "sign"),
    *(f"qsgd:bits={bits}" for bits in (2, 3, 4, 8)),
    *(f"qsgd:bits={bits},bucket=0,norm=l2" for bits in (4, 8)),
    *(f"uniform:bits={bits}" for bits in (2, 3, 4, 6, 8)),
    *(f"topk:fraction={share}" for share in (0.01, 0.05, 0.2)),
    *(f"topk-qsgd:fraction={share}" for share in (0.01, 0.05, 0.1, 0.3)),
    "randk:fraction=0.05",
)
CURVE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LAYER_ERRORS = (0.1, 0.3, 0.5)
_ROUNDINGS = np.arange(0.0, 0.51, 0.05)
ROTATION = "eden, 1 bit"


def rate(
    source: Annotated[
        list[str] | None, typer.Option(help="repeat for several; none: all")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG; none: beside --json")] = None,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure every codec's bits and error on vectors from real training."""
    found: dict[str, Any] = {
        "command": "python -m experiments " + " ".join(sys.argv[1:]),
        "vectors": [],
        "rows": [],
        "curves": [],
        "savings": [],
        "layers": [],
    }
    with clear_errors():
        for name in source or SOURCES:
            if name not in SOURCES:
                raise ValueError(f"source {name!r}: choose from {', '.join(SOURCES)}")
            for label, sample in SOURCES[name](data_dir).items():
                _add(found, label, sample)
    show("ECSQ beside the entropy of the best dead-zone quantizer", _beside(found))
    best = [{k: v for k, v in row.items() if k != "best"}
            for row in found["savings"] if row["best"]]  # fmt: skip
    show("the best other codecs, and ECSQ with no larger error", best)
    if found["layers"]:
        show("one step for all tensors, and one each, at equal bytes", found["layers"])
    write_json(json_file, found)
    path = plot or (json_file and json_file.with_suffix(".png"))
    if path:
        plot_rate(found, path)


def _add(found: dict[str, Any], label: str, sample: Sample) -> None:
    x, sizes = sample
    rows = measured(label, x)
    if len(sizes) > 1:
        found["layers"] += [by_tensor(label, sample, e) for e in LAYER_ERRORS]
    found["vectors"].append({"vector": label, "coordinates": x.size})
    found["rows"] += rows
    found["curves"] += [
        {"vector": label, "error": e, "bits": best_dead_zone(x, e)} for e in CURVE
    ]
    found["savings"] += savings(x, rows)


def measured(label: str, x: F32) -> list[dict[str, Any]]:
    """Return bits a coordinate, header included, and ‖C(x) − x‖²/‖x‖² by codec."""
    rows = []
    for spec in (*(f"ecsq:error={e}" for e in ECSQ_ERRORS), *OTHERS):
        codec = codec_from(spec)
        payload = wire.encode(codec, x, np.random.default_rng(0))
        gain = codec.innovation_gain(x.size)  # what is used where errors add up
        decoded = wire.decode(payload, codec, x.size, gain)
        rows.append(_row(label, spec, 8 * len(payload) / x.size, x, decoded))
    bits, decoded = rotated_signs(x, np.random.default_rng(0))
    rows.append(_row(label, ROTATION, bits, x, decoded))
    return rows


def _row(label: str, codec: str, bits: float, x: F32, decoded: F32) -> dict[str, Any]:
    wide = x.astype(np.float64)
    error = float(np.sum((decoded - wide) ** 2) / (wide @ wide))
    return {"vector": label, "codec": codec, "bits": bits, "error": error}


def rotated_signs(x: F32, rng: np.random.Generator) -> tuple[float, F32]:
    """One bit a coordinate after a random rotation, as DRIVE and EDEN do it.

    C(x) = R^T sign(Rx)·‖Rx‖₁/d with R = HD: random signs and the Hadamard transform
    of length d, p padded to a power of two; that scale has the least error. Returns the
    bits a coordinate, d + 32 and a seed of 64 over p, and the decoded vector.
    (Vargaftik et al., 2021 and 2022.)

    Examples
    --------
    >>> bits, y = rotated_signs(np.ones(8, np.float32), np.random.default_rng(0))
    >>> bits
    13.0
    """
    d = 1 << max(0, x.size - 1).bit_length()
    signs = rng.integers(0, 2, d) * 2.0 - 1.0
    padded = np.zeros(d)
    padded[: x.size] = x
    y = _hadamard(signs * padded)
    scale = np.abs(y).sum() / d
    back = signs * _hadamard(np.where(y < 0, -scale, scale))
    return (d + 32 + 64) / x.size, back[: x.size].astype(np.float32)


def _hadamard(x: np.ndarray) -> np.ndarray:
    """Return the orthonormal Walsh-Hadamard transform."""
    y, half = x.copy(), 1
    while half < y.size:
        pairs = y.reshape(-1, 2, half)
        y = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1).ravel()
        half *= 2
    scaled: np.ndarray = y / np.sqrt(y.size)
    return scaled


def best_dead_zone(x: F32, error: float, most: int = 1 << 18) -> float:
    """Return the order-0 entropy of the best dead-zone quantizer, bits a coordinate.

    A slow search over the dead zone, and for each the largest step that keeps the
    error with exact centroids; a sign for each level that is not 0. Of a longer vector
    every so many-th coordinate counts, `most` in all.
    """
    wide = np.abs(x[:: -(-x.size // most)]).astype(np.float64)
    return min(_entropy_at(wide, error, r) for r in _ROUNDINGS)


def _entropy_at(wide: np.ndarray, error: float, rounding: float) -> float:
    energy = float(wide @ wide)
    low, high = 1e-3, 1e3
    for _ in range(26):
        middle = (low * high) ** 0.5
        lost, _ = _quantized(wide, middle * (energy / wide.size) ** 0.5, rounding)
        low, high = (middle, high) if lost <= error * energy else (low, middle)
    _, n = _quantized(wide, low * (energy / wide.size) ** 0.5, rounding)
    share = n[n > 0] / wide.size
    return float(-(share * np.log2(share)).sum() + 1 - n[0] / wide.size)


def _quantized(
    wide: np.ndarray, step: float, rounding: float
) -> tuple[float, np.ndarray]:
    level = np.floor(wide / step + rounding).astype(np.int64)
    n, total = np.bincount(level), np.bincount(level, wide)
    total[0] = 0  # what is below the dead zone becomes 0
    kept = np.divide(total**2, n, out=np.zeros_like(total), where=n > 0).sum()
    return float(wide @ wide - kept), n


def savings(x: F32, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each other codec's row beside ECSQ with an error no larger.

    `best` marks what no third codec beats in both bits and error.
    """
    others = [row for row in rows if not row["codec"].startswith("ecsq")]
    found = []
    for row in others:
        if not 1e-6 < row["error"] < 1:
            continue
        codec = codec_from(f"ecsq:error={row['error']:.6g}")
        bits = 8 * len(wire.encode(codec, x)) / x.size
        beaten = any(
            o["bits"] <= row["bits"] and o["error"] < row["error"] for o in others
        )
        found.append(
            {**row, "best": not beaten, "ecsq_bits": bits, "ratio": bits / row["bits"]}
        )
    return found


def by_tensor(label: str, sample: Sample, error: float) -> dict[str, Any]:
    """Return the error of one step for all, and of one step a tensor, at equal bytes.

    With a step of its own, each tensor keeps the same relative error, the largest with
    which all of them together take no more bytes; their headers are left out.
    """
    ends = np.cumsum(sample.sizes)
    parts = np.split(sample.x, ends[:-1])
    whole = ECSQ(error)
    body = whole.encode(sample.x)
    low, high = error / 4, min(4 * error, 0.999)
    for _ in range(12):
        middle = (low * high) ** 0.5
        codec = ECSQ(middle)
        spent = sum(len(codec.encode(part)) for part in parts)
        low, high = (middle, high) if spent > len(body) else (low, middle)
    codec = ECSQ(high)
    bodies = [codec.encode(part) for part in parts]
    pairs = zip(bodies, parts, strict=True)
    apart = np.concatenate([codec.decode(b, part.size) for b, part in pairs])
    one = _row(label, "", 0.0, sample.x, whole.decode(body, sample.x.size))
    return {
        "vector": label,
        "tensors": len(parts),
        "bytes": len(body),
        "one_step_error": one["error"],
        "bytes_by_tensor": sum(map(len, bodies)),
        "by_tensor_error": _row(label, "", 0.0, sample.x, apart)["error"],
    }


def _beside(found: dict[str, Any]) -> list[dict[str, Any]]:
    curve = {(c["vector"], c["error"]): c["bits"] for c in found["curves"]}
    return [
        {**row, "best_order_0": bits, "ratio": row["bits"] / bits}
        for row in found["rows"]
        if row["codec"].startswith("ecsq")
        and (bits := curve.get((row["vector"], float(row["codec"].split("=")[1]))))
    ]
