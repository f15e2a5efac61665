"""Files in folders that others can write to, and on file systems that do less."""

import ast
import errno
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgServer
from lasg_flwr.errors import CheckpointError, StateInUseError, UnsafeFileError
from lasg_flwr.protocol import files, opening, saving
from lasg_flwr.protocol.opening import How, append_line, opened, read_bytes, replace
from tests.problems.servers import server_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs of POSIX")
HOWS: tuple[How, ...] = ("read", "new", "append", "lock")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=["link", "dangling link", "fifo", "folder"])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What somebody else has put where a file of ours is to be."""
    place = tmp_path / "state"
    other = tmp_path / "other"
    if request.param == "fifo":
        os.mkfifo(place)
    elif request.param == "folder":
        place.mkdir()
    else:
        if request.param == "link":
            other.write_bytes(b"precious")
        place.symlink_to(other)
    return place


@pytest.mark.parametrize("how", HOWS)
def test_nothing_but_a_regular_file_is_opened(planted: Path, how: How) -> None:
    with pytest.raises((UnsafeFileError, FileExistsError)) as caught:
        opened(planted, how)
    assert str(planted) in str(caught.value)
    other = planted.with_name("other")
    assert not other.exists() or other.read_bytes() == b"precious"


def test_a_file_takes_the_place_of_what_was_planted(planted: Path) -> None:
    if planted.is_dir():
        with pytest.raises(OSError, match="directory"):
            replace(planted, b"ours")
        return
    replace(planted, b"ours")
    assert read_bytes(planted) == b"ours"
    assert not planted.is_symlink()
    other = planted.with_name("other")
    assert not other.exists() or other.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["link", "file", "fifo", "folder"])
def test_what_stands_under_the_growing_name_is_not_written_to(
    tmp_path: Path, kind: str
) -> None:
    growing, other = tmp_path / ".state.new", tmp_path / "other"
    other.write_bytes(b"precious")
    if kind == "link":
        growing.symlink_to(other)
    elif kind == "file":
        growing.write_bytes(b"half")
        growing.chmod(0o666)
    elif kind == "fifo":
        os.mkfifo(growing)
    else:
        growing.mkdir()
    replace(tmp_path / "state", b"ours")
    assert read_bytes(tmp_path / "state") == b"ours"
    assert _mode(tmp_path / "state") == 0o600
    assert other.read_bytes() == b"precious"


def test_what_is_made_is_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.write(tmp_path / "a" / "state", b"x")
        append_line(tmp_path / "log", "{}")
        with files.locked(tmp_path / "lock", 0.1, "in use"):
            pass
    finally:
        os.umask(before)
    for name in ("a/state", "log", "lock"):
        assert _mode(tmp_path / name) == 0o600


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(tmp_path / "state", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace(tmp_path / "state", b"new")
    assert read_bytes(tmp_path / "state") == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_fsync_will_do(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def of_files_alone(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    replace(tmp_path / "state", b"whole")
    assert read_bytes(tmp_path / "state") == b"whole"


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with (
        pytest.raises(UnsafeFileError, match="a symbolic link"),
        files.locked(tmp_path / "lock", 0.1, "in use"),
    ):
        pass
    assert (tmp_path / "other").read_bytes() == b"precious"


def test_a_lock_keeps_others_out(tmp_path: Path) -> None:
    refused: list[bool] = []

    def other() -> None:
        try:
            with files.locked(tmp_path / "lock", 0.05, "in use"):
                refused.append(False)
        except StateInUseError:
            refused.append(True)

    with files.locked(tmp_path / "lock", 0.05, "in use"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert refused == [True, False]


def _server() -> LasgServer:
    return server_for(np.zeros(2))


def test_a_fifo_as_checkpoint_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "server.safetensors")
    with pytest.raises(CheckpointError, match="no regular file"):
        saving.load_server(_server(), tmp_path / "server.safetensors")


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [500, 990, 5000, 200_000])
def test_nested_metadata_is_a_checkpoint_error(depth: int) -> None:
    whole = files.to_bytes({}, {"state": "HERE"})
    header_length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + header_length])
    deep = '{"state":' + "[" * depth + "]" * depth + "}"
    text = files._checksum({}, deep) + deep
    header["__metadata__"][files._META] = text
    encoded = json.dumps(header).encode()
    data = len(encoded).to_bytes(8, "little") + encoded
    try:
        arrays, meta = files.from_bytes(data)
    except CheckpointError:
        return
    meta["version"] = saving.SERVER_VERSION
    meta["fingerprint"] = saving._fingerprint(_server())
    with pytest.raises(CheckpointError):
        saving.restore(_server(), saving.Capture(arrays, meta))


METHODS = {"read_bytes", "write_bytes", "read_text", "write_text", "touch"}


def _opens(call: ast.Call) -> bool:
    """Whether a call opens a file by other means."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if function.attr == "open":
        mode = call.args[0] if call.args else None
        return owner == "os" or (
            isinstance(mode, ast.Constant) and isinstance(mode.value, str)
        )
    return function.attr in METHODS and owner != "opening"


def test_every_file_is_opened_through_one_function() -> None:
    """But for what a user names on the command line, as that user."""
    package = Path(opening.__file__).parents[1]
    found = [
        f"{path.name}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.name not in ("opening.py", "history.py") and path.parent.name != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _opens(node)
    ]
    assert not found


def test_a_state_of_another_format_is_said_to_be_one() -> None:
    data = files.to_bytes({"x": np.arange(3)}, {"a": 1})
    with pytest.raises(CheckpointError, match="not in the format of this release"):
        files.from_bytes(data.replace(b'"lasg-2"', b'"lasg-1"'))


@pytest.mark.parametrize("at", range(-24, 0))
def test_every_damaged_byte_of_a_state_is_noticed(at: int) -> None:
    data = bytearray(files.to_bytes({"x": np.arange(3)}, {"a": 1}))
    data[at] ^= 1
    with pytest.raises(CheckpointError, match="it was damaged"):
        files.from_bytes(bytes(data))
