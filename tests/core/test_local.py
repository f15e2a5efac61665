"""Local steps: PyTorch's SGD form, FedProx, and the gradient path at H = 1."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgWorker, simulate
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.protocol import Task
from lasg_flwr.rules import PS, Rule
from lasg_flwr.vectors import F32
from tests.problems.least_squares import LeastSquares, Running, least_squares
from tests.problems.rules import every_rule

ORACLES = least_squares(workers=4)
SIZE = ORACLES[0].size
RATE = 0.05
FULL: dict[str, float] = {"momentum": 0.9, "weight_decay": 0.1, "proximal": 0.5}
RULES = every_rule(0.5)
CODECS = ("dense", "float16", "natural", "qsgd:bits=4", "sign", "topk:k=2", "randk:k=3")


def by_torch(
    oracle: LeastSquares, theta: F32, batches: list[Any], options: dict[str, float]
) -> F32:
    """The same local SGD, by autograd and torch.optim."""
    torch: Any = pytest.importorskip("torch", reason="torch is not installed")
    w = torch.tensor(theta.copy(), requires_grad=True)
    start = w.detach().clone()
    mu = options.get("proximal", 0.0)
    own = {name: value for name, value in options.items() if name != "proximal"}
    optimizer = torch.optim.SGD([w], lr=RATE, **own)
    for batch in batches:
        x, y = torch.tensor(oracle.x[batch]), torch.tensor(oracle.y[batch])
        loss = ((x @ w - y) ** 2).mean() / 2 + mu / 2 * ((w - start) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found: F32 = w.detach().numpy()
    return found


@pytest.mark.parametrize(
    "options",
    [{}, *({name: value} for name, value in FULL.items()), FULL],
    ids=str,
)
def test_local_steps_are_those_of_pytorch(options: dict[str, float]) -> None:
    local = LocalSteps(ORACLES[0], 12, RATE, **options)
    rng = np.random.default_rng(1)
    theta = rng.normal(size=SIZE).astype(np.float32)
    batches = local.draw(rng)
    update = local.gradient(theta, batches)
    expected = theta - by_torch(ORACLES[0], theta, batches, options)
    assert np.allclose(update, expected, rtol=1e-5, atol=1e-6)
    plain = LocalSteps(ORACLES[0], 12, RATE).gradient(theta, batches)
    assert np.allclose(update, plain, rtol=1e-3) == (not options)
    assert update.dtype == np.float32


@pytest.mark.parametrize("rule", RULES)
def test_one_local_step_is_the_gradient_path_to_rounding(rule: str) -> None:
    """Momentum and the proximal term say nothing at the first step."""
    local = [LocalSteps(o, 1, RATE, momentum=0.9, proximal=2.0) for o in ORACLES]

    def with_smoothness(factor: float) -> Rule[Any]:
        return PS(smoothness=1.5 * factor) if rule == "ps" else RULES[rule]

    fixed: dict[str, Any] = {"rounds": 40, "seed": 1}
    gradients = simulate(
        ORACLES, np.zeros(SIZE), rule=with_smoothness(1.0), step=RATE, **fixed
    )
    updates = simulate(
        local, np.zeros(SIZE), rule=with_smoothness(RATE), step=1.0, **fixed
    )
    assert updates.ledger.uploads == gradients.ledger.uploads
    assert np.allclose(updates.theta, gradients.theta, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_and_codec_trains_with_local_steps(rule: str, codec: str) -> None:
    local = [LocalSteps(o, 5, 0.02, momentum=0.5, proximal=0.1) for o in ORACLES]
    result = simulate(
        local, np.zeros(SIZE), rounds=60, rule=RULES[rule], codec=codec, step=1.0
    )
    ledger = result.ledger
    assert not ledger.refused
    assert ledger.gradient_evaluations % 5 == 0
    loss = [
        sum(o.evaluate(theta)[0] for o in ORACLES)
        for theta in (np.zeros(SIZE, np.float32), result.theta)
    ]
    assert loss[1] < 0.5 * loss[0]


def test_always_on_local_steps_is_local_sgd_to_the_bit() -> None:
    local = [LocalSteps(o, 3, RATE, **FULL) for o in ORACLES]
    path: list[Any] = []
    result = simulate(
        local,
        np.zeros(SIZE),
        rounds=4,
        rule="sgd",
        step=1.0,
        callback=lambda server, report: path.append(server.theta),
    )
    theta = np.zeros(SIZE, np.float32)
    workers = [LasgWorker(oracle, key) for key, oracle in enumerate(local)]
    for k, expected in enumerate(path):
        total = np.zeros(SIZE)
        for worker, oracle in zip(workers, local, strict=True):
            request = result.server.broadcast.request(0, k, force=True)._replace(
                session=bytes(16), turn=k, theta=theta
            )
            task = worker.begin(request)
            assert isinstance(task, Task)
            total += oracle.gradient(theta, task.batch)
        theta = (theta - total / len(local)).astype(np.float32)
        assert theta.tobytes() == expected.tobytes()


def test_what_the_inner_oracle_offers_passes_through() -> None:
    local = LocalSteps(LocalSteps(ORACLES[0], 2, RATE), 3, RATE)
    assert local.size == SIZE
    assert local.gradients_per_call == 6
    assert local.evaluate(np.zeros(SIZE, np.float32))[1] == ORACLES[0].num_examples
    assert local.buffers() is None
    for again in (copy.deepcopy(local), pickle.loads(pickle.dumps(local))):
        assert again.size == SIZE


def test_buffers_go_from_one_local_step_to_the_next() -> None:
    inner = Running(ORACLES[0])
    local = LocalSteps(inner, 3, RATE)
    first = np.ones(Running.width, np.float32)
    first.flags.writeable = False
    local.load_buffers(first)
    local.gradient(np.zeros(SIZE, np.float32), local.draw(np.random.default_rng(0)))
    starts = [start.tobytes() for start, _ in inner.calls]
    ends = [end.tobytes() for _, end in inner.calls]
    assert starts == [first.tobytes(), *ends[:-1]]
    after = local.buffers()
    assert after is not None
    assert after.tobytes() == ends[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "integer >= 1"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and > 0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and >= 0"),
        ({"proximal": float("inf")}, "proximal must be finite and >= 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalSteps(ORACLES[0], **{"steps": 1, "learning_rate": RATE, **options})
