"""``python -m experiments benchmarks networks``: the engine beside plain PyTorch."""

import copy
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from lasg_flwr import simulate
from lasg_flwr.oracles.torch import TorchOracle

from .narrow_resnet import narrow_resnet18
from .networks import Characters, mnist_network, seeded_network
from .output import show, write_json

ETA, D_MAX, MAX_DELAY, EXAMPLES = 0.05, 10, 100, 120
CHARACTERS, LENGTH = 80, 40


class Setup(NamedTuple):
    """A network, and every worker's examples: made up, as only time counts."""

    name: str
    network: nn.Module
    data: list[tuple[Tensor, Tensor]]
    batch_size: int

    def batches(self, rounds: int) -> list[list[tuple[Tensor, Tensor]]]:
        """Draw every round's batches, so that bare loops need not."""
        rng = np.random.default_rng(0)
        found = []
        for _ in range(rounds):
            at = [torch.from_numpy(rng.permutation(EXAMPLES)[: self.batch_size])
                  for _ in self.data]  # fmt: skip
            found.append(
                [(x[i], y[i]) for (x, y), i in zip(self.data, at, strict=True)]
            )
        return found


def setup_of(name: str, workers: int, batch_size: int) -> Setup:
    """Return a network with data of its form for each worker."""
    draw = torch.Generator().manual_seed(0)

    def whole(most: int, *shape: int, pixels: bool = False) -> Tensor:
        dtype = torch.uint8 if pixels else torch.int64
        return torch.randint(0, most, (EXAMPLES, *shape), generator=draw, dtype=dtype)

    def images(*shape: int) -> list[tuple[Tensor, Tensor]]:
        return [(whole(256, *shape, pixels=True), whole(10)) for _ in range(workers)]

    if name == "cnn":
        return Setup(
            name, seeded_network(mnist_network, 0), images(1, 28, 28), batch_size
        )
    if name == "resnet18":
        network = seeded_network(lambda: narrow_resnet18(10), 0)
        return Setup(name, network, images(3, 32, 32), batch_size)
    if name != "gru":
        raise typer.BadParameter(f"{name!r}: choose cnn, gru or resnet18")
    texts = [
        (whole(CHARACTERS, LENGTH), whole(CHARACTERS, LENGTH)) for _ in range(workers)
    ]
    network = seeded_network(lambda: Characters(CHARACTERS), 0)
    return Setup(name, network, texts, batch_size)


Batches = Sequence[tuple[Tensor, Tensor]]
Gradients = Callable[[Tensor, Batches], list[Tensor]]


def gradients_in_turn(network: nn.Module) -> Gradients:
    """Return what computes one gradient after the other, as a plain loop does."""
    parameters = list(network.parameters())

    def compute(
        theta: Tensor, batches: Sequence[tuple[Tensor, Tensor]]
    ) -> list[Tensor]:
        torch.nn.utils.vector_to_parameters(theta, parameters)
        found = []
        for x, y in batches:
            parts = torch.autograd.grad(cross_entropy(network(x), y), parameters)
            found.append(torch.cat([part.reshape(-1) for part in parts]))
        return found

    return compute


def gradients_by_vmap(network: nn.Module) -> Gradients:
    """Return what computes all gradients in one call of `torch.func.vmap`."""
    shapes = {name: tensor.shape for name, tensor in network.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def loss(named: dict[str, Tensor], x: Tensor, y: Tensor) -> Any:
        return cross_entropy(functional_call(network, named, (x,)), y)

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))

    def compute(
        theta: Tensor, batches: Sequence[tuple[Tensor, Tensor]]
    ) -> list[Tensor]:
        parts = torch.split(theta, sizes)
        named = {n: p.view(s) for p, (n, s) in zip(parts, shapes.items(), strict=True)}
        x, y = (torch.stack(of) for of in zip(*batches, strict=True))
        found = gradients(named, x, y)
        rows = [found[name].reshape(len(batches), -1) for name in shapes]
        return list(torch.cat(rows, dim=1))

    return compute


def bare_loop(
    setup: Setup,
    rule: str,
    batches: list[list[tuple[Tensor, Tensor]]],
    compute: Gradients,
    start: Tensor,
) -> Tensor:
    """Run SGD or LASG-WK2 with tensors alone: no protocol, bytes or NumPy."""
    workers = range(len(setup.data))
    theta, total = start.clone(), torch.zeros_like(start)
    held = [torch.zeros_like(start)] * len(setup.data)
    points: list[tuple[int, Tensor] | None] = [None] * len(setup.data)
    squares: list[float] = []
    for k, drawn in enumerate(batches):
        gradients = compute(theta, drawn)
        skipping: set[int] = set()
        if rule == "wk2":
            limit = sum(squares[-D_MAX:]) / ETA**2 / D_MAX
            for point, of in _by_point(points).items():
                older = compute(point, [drawn[m] for m in of])
                for m, old in zip(of, older, strict=True):
                    kept = points[m]
                    change = float((gradients[m] - old).square().sum())
                    if kept is not None and k - kept[0] < MAX_DELAY and change <= limit:
                        skipping.add(m)
        for m in workers:
            if m not in skipping:
                total += gradients[m] - held[m]
                held[m], points[m] = gradients[m], (k, theta)
        new = theta - ETA / len(setup.data) * total
        squares.append(float((new - theta).square().sum()))
        theta = new
    return theta


def _by_point(points: list[tuple[int, Tensor] | None]) -> dict[Tensor, list[int]]:
    """Return which workers share a point; tensors are told apart by identity."""
    found: dict[Tensor, list[int]] = {}
    for m, point in enumerate(points):
        if point is not None:
            found.setdefault(point[1], []).append(m)
    return found


def contestants(setup: Setup, rule: str, rounds: int) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name; without vmap where it refuses the network."""
    network = setup.network
    oracles = [
        TorchOracle(
            network, cross_entropy, TensorDataset(x, y), setup.batch_size, device="cpu"
        )
        for x, y in setup.data
    ]
    theta = oracles[0].theta()
    buffers = oracles[0].buffers() if oracles[0].buffer_names else None

    def engine(batched: bool | None) -> Any:
        return simulate(oracles, theta, rounds=rounds, rule=rule, step=ETA,
                        buffers=buffers, batched=batched)  # fmt: skip

    drawn, start = setup.batches(rounds), torch.from_numpy(theta.copy())
    loops = {
        "bare loop": gradients_in_turn(copy.deepcopy(network)),
        "bare vmap": gradients_by_vmap(copy.deepcopy(network)),
    }
    runs: dict[str, Callable[[], Any]] = {"engine per worker": lambda: engine(False)}
    if simulate(oracles, theta, rounds=1, rule=rule, step=ETA,
                buffers=buffers).not_batched:  # fmt: skip
        del loops["bare vmap"]
    else:
        runs["engine batched"] = lambda: engine(None)
    for name, compute in loops.items():
        runs[name] = _looped(setup, rule, drawn, compute, start)
    return runs


def _looped(*arguments: Any) -> Callable[[], Any]:
    return lambda: bare_loop(*arguments)


def networks(
    network: Annotated[
        list[str] | None, typer.Option(help="cnn | gru | resnet18; none: all")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    repeats: Annotated[int, typer.Option(min=1)] = 7,
    workers: Annotated[int, typer.Option(min=2)] = 10,
    batch_size: Annotated[int, typer.Option(min=1, max=EXAMPLES)] = 12,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Time the engine beside bare PyTorch loops, in turn, default threads."""
    rows = []
    for name in network or ("cnn", "gru", "resnet18"):
        for rule in ("sgd", "wk2"):
            setup = setup_of(name, workers, batch_size)
            rows += timed(name, rule, contestants(setup, rule, rounds), rounds, repeats)
    found = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "workers": workers,
        "batch_size": batch_size,
        "rounds": rounds,
        "repeats": repeats,
        "rows": rows,
    }
    show(f"milliseconds a round, M = {workers}, batches of {batch_size}", rows)
    write_json(json_file, found)


def timed(
    name: str,
    rule: str,
    runs: Mapping[str, Callable[[], Any]],
    rounds: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Time runs in turn, the first repeat left out; wall and processor time."""
    wall: dict[str, list[float]] = {what: [] for what in runs}
    cpu: dict[str, list[float]] = {what: [] for what in runs}
    for repeat in range(repeats + 1):
        for what, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            if repeat:
                wall[what].append(1e3 * (time.perf_counter() - start) / rounds)
                cpu[what].append(1e3 * (time.process_time() - used) / rounds)
    base = wall["bare loop"]
    vmap = wall.get("bare vmap")
    return [
        {
            "network": name,
            "rule": rule,
            "what": what,
            "ms": round(median(wall[what]), 2),
            "least": round(min(wall[what]), 2),
            "most": round(max(wall[what]), 2),
            "cpu_ms": round(median(cpu[what]), 2),
            "x_bare_loop": round(
                median(a / b for a, b in zip(wall[what], base, strict=True)), 2
            ),
            "x_bare_vmap": vmap
            and round(median(a / b for a, b in zip(wall[what], vmap, strict=True)), 2),
            "x_bare_loop_cpu": round(
                median(a / b for a, b in zip(cpu[what], cpu["bare loop"], strict=True)),
                2,
            ),
        }
        for what in runs
    ]
