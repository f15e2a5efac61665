"""``python -m experiments.deployment_large``: 11 million parameters, real processes.

As many parameters as ResNet18, trained for five rounds with WK2 by three SuperNodes on
loopback; the problem itself is a quadratic, so that nothing but NumPy is needed. Each
worker's state, up to 179 MB, must be in its file after the run and be the last round's.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lasg_flwr import worker_state

from .deployment import Federation

SIZE = 11_181_642
"""Parameters of ResNet18 for ten classes."""

CODEC = "topk:k=100000"
"""With a lossy codec a worker keeps θ and h of two uploads: 179 MB."""

_PROJECT = """
[project]
name = "large"
version = "1.0.0"
dependencies = ["lasg-flwr"]
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "check"
[tool.flwr.app.components]
serverapp = "large:server"
clientapp = "large:client"
[tool.flwr.app.config]
rounds = 5
size = 1000
codec = "dense"
result = ""
"""

_APP = """
import json
import time
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.strategies import LasgStrategy

server = ServerApp()


class Quadratic:
    num_examples = 1

    def __init__(self, seed):
        self.seed = seed

    def draw(self, rng):
        return rng.integers(1000)

    def gradient(self, theta, batch):
        centre = np.random.default_rng(self.seed).standard_normal(theta.size, "f4")
        return theta - centre

def client_fn(context):
    oracle = Quadratic(int(context.node_config["partition-id"]))
    return LasgNumPyClient(oracle, context).to_client()


client = ClientApp(client_fn=client_fn)


@server.main()
def main(grid, context):
    config = context.run_config
    start = ArrayRecord({"theta": Array(np.zeros(int(config["size"]), "f4"))})
    strategy = LasgStrategy("wk2", config["codec"], step=0.5, fraction_evaluate=0.0,
                            min_train_nodes=3, min_available_nodes=3)
    norms, times = [], []
    def look(round_, arrays):
        norms.append(float(np.linalg.norm(arrays["theta"].numpy())))
        times.append(time.perf_counter())
    result = strategy.start(grid, start, int(config["rounds"]), evaluate_fn=look)
    records = strategy.server.roster.sorted()
    out = {
        "ledger": result.ledger.as_dict(),
        "ids": {r.key: r.id.hex() for r in records},
        "norms": norms,
        "seconds": list(np.diff(times)),
    }
    Path(config["result"]).write_text(json.dumps(out))
"""


def deploy(
    size: int = SIZE, rounds: int = 5, codec: str = CODEC, timeout: float = 500
) -> dict[str, Any]:
    """Run the large app; return its result, with each worker's state as found.

    ``states`` holds, for each worker, the bytes of its file, the last round that it
    answered, and whether it holds the upload that the server knows.
    """
    with tempfile.TemporaryDirectory(prefix="lasg-large-") as name:
        home = Path(name)
        app = home / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text(_PROJECT)
        (app / "large.py").write_text(_APP)
        result = home / "result.json"
        with Federation(home, 3) as federation:
            output = federation.run(
                app,
                f'rounds={rounds} size={size} codec="{codec}" result="{result}"',
                timeout,
            )
            if not result.exists():
                raise RuntimeError(f"the run left no result: {output[-4000:]}")
        found: dict[str, Any] = json.loads(result.read_text())
        found["states"] = [
            _state(home / f"state{key}", id_) for key, id_ in found["ids"].items()
        ]
        return found


def _state(folder: Path, known_id: str) -> dict[str, Any]:
    (path,) = folder.glob("run-*/*.safetensors")
    state = worker_state.load(path.read_bytes())
    slots = [s for s in (state.committed, state.pending) if s is not None]
    return {
        "bytes": path.stat().st_size,
        "round": state.answered[1] if state.answered else None,
        "agrees": any(slot.id.hex() == known_id for slot in slots),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run it and print what came of it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=SIZE)
    options = parser.parse_args(arguments)
    start = time.monotonic()
    found = deploy(options.size, options.rounds)
    print(json.dumps(found, indent=1))
    print(f"{time.monotonic() - start:.0f} s")
    good = all(s["agrees"] for s in found["states"])
    return 0 if good and found["ledger"]["rounds"] == options.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
