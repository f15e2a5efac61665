"""Vectors, files, worker states and message headers: round trips and bad input."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lasg_flwr import CheckpointError, WireError, simulate
from lasg_flwr.config import U64, Settings
from lasg_flwr.layout import Layout
from lasg_flwr.optim import Adam
from lasg_flwr.protocol import files
from lasg_flwr.protocol.heads import Head, settings_from, settings_text
from lasg_flwr.protocol.messages import Reply
from lasg_flwr.protocol.saving import dump_worker, load_server, load_worker, save_server
from lasg_flwr.random import KeyedGenerators, keyed_generator
from lasg_flwr.vectors import squared_distance
from tests.problems.least_squares import least_squares
from tests.problems.servers import server_for


def model(dtype: str = "f4") -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "conv.weight": rng.normal(size=(2, 3, 1)).astype(dtype),
        "bn.running_mean": rng.normal(size=3).astype("f4"),
        "bn.num_batches_tracked": np.array(5, np.int64),
        "mask": np.array([True, False]),
        "head.bias": np.float32(0.5) + np.zeros((), dtype),
    }


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_model_survives_packing(dtype: str) -> None:
    arrays = model(dtype)
    layout = Layout.of(arrays)
    parts = (
        layout.flatten(arrays, "parameter"),
        layout.flatten(arrays, "buffer"),
        layout.integers(arrays),
    )
    again = Layout.from_json(layout.to_json())
    assert again == layout
    packed = again.pack(*parts)
    assert packed.nbytes == layout.packed_bytes == 4 * 7 + 4 * 3 + 8 + 2
    back = again.unflatten(*again.split(packed))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_allclose(back[name], array, rtol=1e-6)


def test_kinds_can_be_named() -> None:
    layout = Layout.of(model(), buffers=["head.bias"])
    kinds = {e.name: e.kind for e in layout.entries}
    assert kinds["head.bias"] == "buffer"
    assert kinds["bn.running_mean"] == "parameter"
    assert kinds["mask"] == "integer"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no floating-point parameters"),
        ({"n": np.arange(3)}, "no floating-point parameters"),
        ({"c": np.zeros(2, complex)}, "dtype complex128"),
    ],
)
def test_bad_models_are_refused(arrays: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout.of(arrays)


def test_arrays_of_another_model_are_refused() -> None:
    layout = Layout.of(model())
    with pytest.raises(ValueError, match=r"'head.bias': expected shape \(\), found"):
        layout.flatten({**model(), "head.bias": np.zeros(2)}, "parameter")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[[1,2]]",
        '[["w",[-1],"<f4","parameter"]]',
        '[["w",[2],"<f4","gradient"]]',
        '[["w",[2],"|O","parameter"]]',
        '[["w",[1e99],"<f4","parameter"]]',
    ],
)
def test_bad_layouts_are_refused(text: str) -> None:
    with pytest.raises(WireError, match="not a model layout"):
        Layout.from_json(text)


def test_packed_models_of_another_length_are_refused() -> None:
    layout = Layout.of({"w": np.zeros(3)})
    for packed in (np.zeros(11, np.uint8), np.zeros(12, np.int8), np.zeros((3, 4))):
        with pytest.raises(WireError, match="does not fit its layout"):
            layout.split(packed)  # type: ignore[arg-type]


def test_squared_distance_is_the_same_in_blocks() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200_001)).astype(np.float32)
    exact = float(np.sum((a - b).astype(np.float64) ** 2))
    assert squared_distance(a, b) == pytest.approx(exact, rel=1e-12)
    assert squared_distance(a) == pytest.approx(float(a.astype(float) @ a), rel=1e-12)


def test_no_dot_product_is_long_enough_to_wake_blas_threads() -> None:
    """OpenBLAS's own threads begin at 10,000 elements, and spin beside PyTorch's."""
    lengths = []

    class Watched(np.ndarray[Any, Any]):
        def dot(self, other: Any, out: Any = None) -> Any:
            lengths.append(self.size)
            return np.asarray(self).dot(np.asarray(other))

    a = np.ones(200_001, np.float32).view(Watched)
    for size in (1, 8192, 8193, 10_001, 200_001):
        lengths.clear()
        assert squared_distance(a[:size]) == size
        assert sum(lengths) == size
        assert max(lengths) < 10_000


@given(
    seed=st.integers(0, 2**64 - 1),
    key=st.integers(0, 2**64 - 1),
    rounds=st.lists(st.integers(0, 2**63), min_size=1, max_size=4),
)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_rekeyed_generators_draw_the_same(
    seed: int, key: int, rounds: list[int]
) -> None:
    generators = KeyedGenerators(seed, key)
    for k in rounds:
        for stream in (0, 1):
            found = generators.at(k, stream).choice(50, 7, replace=False)
            expected = keyed_generator(seed, key, k, stream)
            assert found.tolist() == expected.choice(50, 7, replace=False).tolist()


def test_generators_differ_by_every_part_of_their_key() -> None:
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({keyed_generator(*key).random() for key in keys}) == len(keys)


@pytest.mark.parametrize("rule", ["sgd", "lag", "wk1:max_delay=10", "wk2", "pse"])
@pytest.mark.parametrize("codec", ["dense", "topk:k=2"])
@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
def test_worker_states_survive_bytes(rule: str, codec: str, server_memory: Any) -> None:
    result = simulate(
        least_squares(),
        np.zeros(6),
        rounds=17,
        rule=rule,
        codec=codec,
        server_memory=server_memory,
        step=0.05,
    )
    for worker in result.workers:
        settings = result.server.settings
        again = load_worker(dump_worker(worker.state, settings), settings)
        assert repr(again) == repr(worker.state)
        assert dump_worker(again, settings) == dump_worker(worker.state, settings)


@pytest.mark.parametrize("cut", [0, 7, 64, -3])
def test_damaged_worker_states_are_errors(cut: int) -> None:
    result = simulate(least_squares(), np.zeros(6), rounds=2)
    state, settings = result.workers[0].state, result.server.settings
    for data in (dump_worker(state, settings)[:cut], b"\xff" * 64):
        with pytest.raises(CheckpointError):
            load_worker(data, settings)


@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
@pytest.mark.parametrize("rule", ["wk2", "pse"])
def test_a_server_resumes_to_the_bit(
    tmp_path: Path, rule: str, server_memory: Any
) -> None:
    oracles = least_squares()
    options: dict[str, Any] = {
        "rule": rule,
        "codec": "topk:k=2",
        "server_memory": server_memory,
        "step": Adam(0.05),
        "seed": 4,
    }
    whole = simulate(oracles, np.zeros(6), rounds=40, **options)
    first = simulate(oracles, np.zeros(6), rounds=15, **{**options, "step": Adam(0.05)})
    save_server(first.server, tmp_path / "server.safetensors")
    server = server_for(np.zeros(6), **{**options, "step": Adam(0.05)})
    load_server(server, tmp_path / "server.safetensors")
    assert server.session != first.server.session
    for _ in range(25):
        for node, request in server.open_round(range(4)):
            reply = first.workers[node].handle(request)
            assert reply is not None
            assert server.receive(node, reply).kept
        server.close_round()
    assert server.theta.tobytes() == whole.theta.tobytes()
    assert server.ledger == whole.ledger


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.safetensors"
    save_server(server_for(np.zeros(6), "wk2"), path)
    for other in (
        server_for(np.zeros(7), "wk2"),
        server_for(np.zeros(6), "pse"),
        server_for(np.zeros(6), "wk2", codec="topk"),
        server_for(np.zeros(6), "wk2", step=0.2),
    ):
        with pytest.raises(CheckpointError, match="resume with what it was"):
            load_server(other, path)
        assert other.round == 0
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        load_server(server_for(np.zeros(6), "wk2"), path)
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        load_server(server_for(np.zeros(6), "wk2"), tmp_path / "nothing")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            files.write(path, b"new")
    assert path.read_bytes() == b"old"
    files.write(path, b"new")  # takes over what the failure left behind
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_system_that_opens_no_folders_writes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has no directory entries to bring to the disk."""
    opened = os.open

    def refusing(path: Any, *arguments: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(path)
        return opened(path, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refusing)
        files.write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


SETTINGS = Settings("wk2", "dense", "innovation", "per-worker", 0)
HEAD = Head(bytes(16), 7, 9, 0.1, None, True, "dense", None, False)


def test_requests_survive_their_head() -> None:
    for head in (
        HEAD,
        HEAD._replace(accepted_id=b"i" * 16, threshold=1 / 3, force=False),
        HEAD._replace(model=b"m" * 16, has_path=True, full_codec="topk:k=1;dense"),
        HEAD._replace(round=U64 - 1, turn=U64 - 1, threshold=float("inf")),
    ):
        assert Head.from_bytes(head.to_bytes()) == head
    assert settings_from(settings_text(SETTINGS)) == SETTINGS


@pytest.mark.parametrize(
    "head",
    [
        HEAD._replace(threshold=-1.0),
        HEAD._replace(threshold=float("nan")),
        HEAD._replace(full_codec="gzip"),
        HEAD._replace(has_path=True),
    ],
)
def test_bad_heads_are_refused(head: Head) -> None:
    with pytest.raises(WireError, match="not a request of this release"):
        Head.from_bytes(head.to_bytes())


@pytest.mark.parametrize("change", [{0: 99}, {1: 16}, {1: 0x80}, {-1: 0xFF}])
def test_damaged_heads_are_refused(change: dict[int, int]) -> None:
    data = bytearray(HEAD.to_bytes())
    for place, value in change.items():
        data[place] = value
    with pytest.raises(WireError, match="not a request of this release"):
        Head.from_bytes(bytes(data))
    with pytest.raises(WireError, match="not a request of this release"):
        Head.from_bytes(HEAD.to_bytes()[:20])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "",
        "[" * 100_000,
        json.dumps({**asdict(SETTINGS), "codec": ["dense"]}),
        json.dumps({**asdict(SETTINGS), "rule": ["wk2"]}),
        json.dumps({**asdict(SETTINGS), "downlink": "gzip"}),
        json.dumps({**asdict(SETTINGS), "extra": 1}),
    ],
)
def test_bad_settings_are_refused(text: str) -> None:
    with pytest.raises(WireError, match="not settings of this release"):
        settings_from(text)


@given(st.binary(max_size=120))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_random_reply_headers_are_read_or_refused(header: bytes) -> None:
    good = Reply(bytes(16), 3, 7, None, "full", b"").header()
    for data in (header, header[: len(good)] + good[len(header) :]):
        try:
            reply = Reply.from_header(data, b"")
        except WireError:
            continue
        assert reply.kind in ("skip", "innovation", "full", "no-model")
