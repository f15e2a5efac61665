"""The same bytes from numba and NumPy, from any number of threads, and from tensors."""

from typing import Any

import numpy as np
import pytest

from lasg_flwr.codecs import QSGD, Codec, Dense, Natural, codec_from, wire
from lasg_flwr.codecs.coding import backend, threads
from lasg_flwr.vectors import F32
from tests.problems.codec_cases import (
    cases,
    keyed_rng,
    vectors,
)

FAST = (
    "qsgd",
    "qsgd:bits=3,bucket=7",
    "qsgd:bits=2,bucket=0,norm=l2",
    "qsgd:bits=8",
    "qsgd:bits=16,bucket=100",
    "uniform:bits=4",
    "uniform:bits=5",
    "natural",
    "topk",
    "topk:k=1",
    "topk-qsgd:fraction=0.3,bits=4",
    "ecsq:error=0.3",
    "ecsq:error=0.001",
    "ecsq:bits=0.5",
)


@pytest.mark.parametrize("spec", FAST)
@pytest.mark.parametrize("size", [1, 7, 8, 9, 513, 32_768, 32_773, 300_001])
def test_numba_and_numpy_give_the_same_bytes(
    spec: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not backend.available:
        pytest.skip("needs the extra 'fast' (numba)")
    codec = codec_from(spec)
    monkeypatch.setattr(backend, "MINIMUM", 0)
    monkeypatch.setattr(backend, "SEQUENTIAL_MINIMUM", 0)
    for name in ("normal", "heavy", "flat", "sparse"):
        x = vectors(size)[name]
        payloads, results = set(), set()
        for available in (True, False):
            monkeypatch.setattr(backend, "available", available)
            payload = wire.encode(codec, x, keyed_rng())
            payloads.add(payload)
            results.add(wire.decode(payload, codec, size).tobytes())
        assert len(payloads) == 1, name
        assert len(results) == 1, name


@pytest.mark.parametrize("fast", [True, False])
def test_numba_sees_what_is_not_finite(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not backend.available:
        pytest.skip("needs the extra 'fast' (numba)")
    monkeypatch.setattr(backend, "MINIMUM", 0)
    monkeypatch.setattr(backend, "available", fast)
    for bad in (np.nan, np.inf, -np.inf):
        for spec in ("qsgd", "uniform", "topk:k=1"):
            with pytest.raises(ValueError, match="NaN or infinity"):
                codec_from(spec).encode(np.array([1, bad, 2], np.float32), keyed_rng())


@pytest.mark.parametrize(
    "spec", ["qsgd", "natural", "topk", "qsgd:norm=l2,bucket=999", "ecsq"]
)
def test_bytes_do_not_depend_on_threads(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = vectors(300_001)["normal"]
    payloads = set()
    for count in ("1", "3"):
        monkeypatch.setenv("LASG_THREADS", count)
        assert threads.count() == int(count)
        payloads.add(wire.encode(codec_from(spec), x, keyed_rng()))
    assert len(payloads) == 1


class Tensor:
    """What encode uses of a torch tensor."""

    def __init__(self, x: F32) -> None:
        self.x, self.calls = x, 0

    def detach(self) -> "Tensor":
        self.calls += 1
        return self

    cpu = float = detach

    def numpy(self) -> F32:
        return self.x


@pytest.mark.parametrize("codec", cases())
def test_tensors_are_encoded(codec: Codec) -> None:
    x = vectors(50)["normal"]
    tensor: Any = Tensor(x)
    assert wire.encode(codec, tensor, keyed_rng()) == wire.encode(codec, x, keyed_rng())
    assert tensor.calls == 3


def test_torch_tensors_are_encoded() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    x = vectors(50)["normal"]
    for codec in (QSGD(), Natural(), Dense()):
        tensor = torch.from_numpy(x).requires_grad_()
        assert wire.encode(codec, tensor, keyed_rng()) == wire.encode(
            codec, x, keyed_rng()
        )
        half = tensor.to(torch.bfloat16)
        wire.encode(codec, half, keyed_rng())


def test_a_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        wire.encode(Dense(), np.zeros((2, 2), np.float32))


def test_a_damaged_cache_of_compiled_loops_is_compiled_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = pytest.importorskip("lasg_flwr.codecs.coding.fast", exc_type=ImportError)
    made = []

    def njit(nogil: bool, cache: bool = False) -> Any:
        def damaged(*arguments: Any) -> None:
            raise EOFError("Ran out of input")

        made.append(cache)
        return lambda function: damaged if cache else function

    monkeypatch.setattr(fast.numba, "njit", njit)
    double = fast.compiled(lambda x: 2 * x)
    assert [double(1), double(2)] == [2, 4]
    assert made == [True, False]


def test_an_error_of_a_compiled_loop_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = pytest.importorskip("lasg_flwr.codecs.coding.fast", exc_type=ImportError)
    monkeypatch.setattr(fast.numba, "njit", lambda **options: lambda function: function)
    inverse = fast.compiled(lambda x: 1 / x)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            inverse(0)
    assert inverse(2) == 0.5
