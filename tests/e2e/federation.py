"""A Flower federation of real processes on loopback: TLS, node authentication."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from experiments.flower_run import environment, processes_of, stop_daemons

from .certificates import write_certificates, write_node_key

NAME = "loopback"
ONE_PORT = find_spec("flwr.supernode.fleet_http_connection") is not None
"""Older releases serve SuperNodes, the ``flwr`` command and apps on a port each."""


def until(what: Callable[[], object], seconds: float) -> None:
    """Wait until `what` returns something true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "a step of the test took too long"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Federation(AbstractContextManager["Federation"]):
    """A SuperLink and some SuperNodes, killed when the block ends.

    `home` is an empty folder for certificates, keys, logs, and the nodes' state; the
    SuperNodes' partitions are 0, 1, ....
    """

    def __init__(self, home: Path, nodes: int = 3) -> None:
        self.home, self.size = home, nodes
        self.port, self._control, self._runtime, *self._node_ports = free_ports(
            nodes + 3
        )
        self.superlink: subprocess.Popen[bytes] | None = None
        self.supernodes: dict[int, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []

    @property
    def address(self) -> str:
        """Where the SuperLink listens."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> "Federation":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        write_certificates(self.home)
        certificate = self.home / "ca.crt"
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "{NAME}"\n\n[superlink.{NAME}]\n'
            f'address = "{self._control_address}"\n'
            f'root-certificates = "{certificate}"\n'
        )
        tls = (
            *("--ssl-ca-certfile", certificate),
            *("--ssl-certfile", self.home / "server.pem"),
            *("--ssl-keyfile", self.home / "server.key"),
        )
        self.superlink = self._spawn(
            "superlink",
            *("flower-superlink", *self._listen(), *tls),
            *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
        )
        until(self._is_listening, 60)
        for partition in range(self.size):
            key = self.home / f"node{partition}"
            write_node_key(key)
            self.flwr("supernode", "register", key.with_suffix(".pub"), NAME)
            self.start_node(partition)

    @property
    def _control_address(self) -> str:
        """Where ``flwr`` talks to the SuperLink."""
        return self.address if ONE_PORT else f"127.0.0.1:{self._control}"

    def _listen(self) -> tuple[object, ...]:
        if ONE_PORT:
            return "--host", "127.0.0.1", "--port", self.port
        return (
            *("--host", "127.0.0.1", "--port", self._runtime),
            *("--fleet-api-address", self.address),
            *("--control-api-address", self._control_address),
        )

    def start_node(self, partition: int) -> None:
        """Start a SuperNode; its state folder outlives it."""
        state = self.home / f"state{partition}"
        config = f"partition-id={partition} num-partitions={self.size} "
        config += f'lasg-state="file" lasg-state-dir="{state}"'
        self.supernodes[partition] = self._spawn(
            f"supernode{partition}",
            *("flower-supernode", "--superlink", self.address),
            *("--root-certificates", self.home / "ca.crt"),
            *("--auth-supernode-private-key", self.home / f"node{partition}"),
            *("--port", self._node_ports[partition], "--node-config", config),
        )

    def flwr(self, *arguments: object, timeout: float = 120) -> str:
        """Run a ``flwr`` command against this federation; return what it prints."""
        done = subprocess.run(
            ["flwr", *map(str, arguments)],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"flwr {arguments} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def run(self, app: Path, run_config: str, timeout: float) -> str:
        """Run an app to its end and return what it logs."""
        return self.flwr(
            "run", app, NAME, "--stream", "-c", run_config, timeout=timeout
        )

    def submit(self, app: Path, run_config: str) -> str:
        """Start a run and return its id at once."""
        self.flwr("run", app, NAME, "-c", run_config)
        return str(self.last_run()["run-id"])

    def stop(self, run_id: str) -> None:
        """Stop a run as its user would, with ``flwr stop``."""
        self.flwr("stop", run_id, NAME)

    def run_log(self, run_id: str) -> str:
        """Return what ``flwr log`` shows of a run."""
        return self.flwr("log", run_id, NAME, "--show")

    def kill_node(self, partition: int) -> None:
        """End a SuperNode and all that it has started, as a power cut would."""
        self.supernodes[partition].kill()
        self.supernodes[partition].wait()
        self.kill(f"127.0.0.1:{self._node_ports[partition]}")

    def revive_node(self, partition: int, seconds: float = 150) -> None:
        """Start a killed SuperNode until it stays, as systemd would.

        The SuperLink refuses it until its own heartbeats are missed: a minute.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = self._activations()
            self.start_node(partition)
            while self.supernodes[partition].poll() is None:
                if self._activations() > before:
                    return
                time.sleep(0.2)
            self.kill(f"127.0.0.1:{self._node_ports[partition]}")
            time.sleep(2)
        raise RuntimeError(f"node {partition}: {self.log_of(f'supernode{partition}')}")

    def _activations(self) -> int:
        return self.log_of("superlink").count("Activated node_id")

    def kill(self, *words: str, by: int = signal.SIGKILL) -> int:
        """Signal this federation's processes with all `words` in their command line."""
        killed = 0
        for pid, line in processes_of(str(self.home)):
            if all(word in line for word in words):
                os.kill(pid, by)
                killed += 1
        return killed

    def last_run(self) -> dict[str, Any]:
        """Return what the SuperLink knows about the last run, traffic included."""
        runs = json.loads(self.flwr("list", NAME, "--format", "json"))["runs"]
        run_id = runs[0]["run-id"]
        found = self.flwr("list", NAME, "--run-id", run_id, "--format", "json")
        details: dict[str, Any] = json.loads(found)["runs"][0]
        return details

    def log_of(self, name: str) -> str:
        """Return what ``superlink`` or ``supernode0`` and so on has logged."""
        return (self.home / f"{name}.log").read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        return {**environment(str(self.home)), "OPENBLAS_NUM_THREADS": "1"}

    def _spawn(self, name: str, *command: object) -> subprocess.Popen[bytes]:
        log = (self.home / f"{name}.log").open("ab")
        self._logs.append(log)
        return subprocess.Popen(
            [str(part) for part in command],
            env=self._environment(),
            executable=str(Path(sys.executable).parent / str(command[0])),
            stdout=log,
            stderr=log,
        )

    def _is_listening(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *exc: object) -> None:
        processes = [*self.supernodes.values(), *filter(None, [self.superlink])]
        for process in processes:
            process.kill()
            process.wait()
        stop_daemons(str(self.home))
        for log in self._logs:
            log.close()
