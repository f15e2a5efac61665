"""Running the app under ``flwr run``, with a SuperLink of its own that ends with it."""

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def flwr_run(
    app: Path, run_config: str, supernodes: int, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run a Flower app in Ray's simulation and wait for its end.

    Parameters
    ----------
    app : Path
        Folder of the app.
    run_config : str
        What stands behind ``-c``.
    supernodes : int
        Number of simulated clients.
    timeout : float (default: 600)
        Seconds after which the run is given up.
    """
    federation = f"num-supernodes={supernodes} client-resources-num-cpus=1"
    command = [
        *("flwr", "run", str(app), "--stream", "-c", run_config),
        *("--federation-config", federation),
    ]
    with tempfile.TemporaryDirectory(prefix="lasg-flower-") as home:
        try:
            return subprocess.run(
                command,
                env=environment(home),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        finally:
            stop_daemons(home)


def environment(home: str) -> dict[str, str]:
    """Return the environment of a SuperLink of its own, with its files in `home`."""
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        control, http = (str(s.getsockname()[1]) for s in (a, b))
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": home,
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_LOCAL_CONTROL_API_PORT": control,
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": http,
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def stop_daemons(home: str) -> None:
    """Kill what Flower left behind, known by ``FLWR_HOME`` in its environment."""
    for pid, _ in processes_of(home):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)


def processes_of(home: str) -> list[tuple[int, str]]:
    """Return id and command line of the processes that have this ``FLWR_HOME``."""
    mark = f"FLWR_HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append((int(process.name), line.decode(errors="replace")))
        except OSError:
            continue
    return found
