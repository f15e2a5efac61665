"""A PyTorch app with BatchNorm and dropout: mod, client and engine, to the bit."""

import random
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from experiments.inprocess import InProcessGrid
from lasg_flwr import Oracle, simulate
from lasg_flwr.clients import lasg_mod
from lasg_flwr.layout import Layout
from lasg_flwr.oracles.seeding import all_seeded
from lasg_flwr.rules import WK1, Rule, rule_from
from lasg_flwr.strategies import LasgResult, LasgStrategy
from lasg_flwr.vectors import F32
from tests.problems.flower_app import client_fn_of
from tests.problems.least_squares import least_squares

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = [
    pytest.mark.flower,
    pytest.mark.filterwarnings("ignore:.*use c <= 4"),  # a few rounds, no training
]

Arrays = dict[str, NDArray[Any]]
DATA = least_squares(workers=3, examples=16)
ROUNDS = 8
RULES: dict[str, Rule[Any]] = {
    **{name: rule_from(f"{name}:c=20") for name in ("lag", "wk2", "pse")},
    "wk1": WK1(c=20, max_delay=12),
}


def network() -> Any:
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(8, 1),
    )


def initial() -> Arrays:
    torch.manual_seed(0)
    net = network()
    net[1].num_batches_tracked.fill_(5)
    return {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}


def fit(arrays: Arrays, partition: int) -> Arrays:
    """Train for an epoch, as a project would; no seed is set here."""
    net, data = network(), DATA[partition]
    net.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()})
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=4, shuffle=True
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    net.train()
    for features, targets in loader:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(features)[:, 0], targets).backward()
        optimizer.step()
    return {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}


def partition_of(context: Context) -> int:
    return int(context.node_config["partition-id"])


def message_app() -> ClientApp:
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        record = message.content.array_records["arrays"]
        made = fit({n: a.numpy() for n, a in record.items()}, partition_of(context))
        arrays = ArrayRecord({n: Array(a) for n, a in made.items()})
        metrics = MetricRecord({"num-examples": 16})
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        return Message(content, reply_to=message)

    return app


NAMES = list(initial())


class Plain(NumPyClient):
    def __init__(self, partition: int) -> None:
        self.partition = partition

    def fit(self, parameters: Any, config: Any) -> Any:
        arrays = dict(zip(NAMES, parameters, strict=True))
        return list(fit(arrays, self.partition).values()), 16, {}


def numpy_app() -> ClientApp:
    def client_fn(context: Context) -> Client:
        return Plain(partition_of(context)).to_client()

    return ClientApp(client_fn=client_fn, mods=[lasg_mod])


class Update(Oracle):
    """The same training as an oracle, for the client and the engine."""

    num_examples = 16

    def __init__(self, partition: int) -> None:
        self.partition = partition
        start = initial()
        self.layout = Layout.of(start)
        self.values = self.layout.flatten(start, "buffer")
        self.integers = self.layout.integers(start)

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(2**32))

    def load_buffers(self, values: F32) -> None:
        self.values = values

    def buffers(self) -> F32:
        return self.values

    def gradient(self, theta: F32, batch: int) -> F32:
        arrays = self.layout.unflatten(theta, self.values, self.integers)
        random.seed(batch)
        np.random.seed(batch)  # noqa: NPY002
        torch.manual_seed(batch)
        made = fit(arrays, self.partition)
        self.values = self.layout.flatten(made, "buffer")
        update: F32 = theta - self.layout.flatten(made, "parameter")
        return update


def oracle_app() -> ClientApp:
    return ClientApp(client_fn=client_fn_of(Update))


def run(app: ClientApp, rule: Rule[Any], codec: str) -> LasgResult:
    strategy = LasgStrategy(rule, codec, step=1.0, fraction_evaluate=0.0)
    arrays = ArrayRecord({name: Array(a) for name, a in initial().items()})
    return strategy.start(InProcessGrid(app, len(DATA)), arrays, ROUNDS)


@pytest.mark.parametrize("codec", ["dense", "qsgd:bits=4"])
@pytest.mark.parametrize("rule", RULES)
def test_mod_client_and_engine_take_the_same_path(rule: str, codec: str) -> None:
    start = initial()
    layout = Layout.of(start)
    engine = simulate(
        [Update(i) for i in range(len(DATA))],
        layout.flatten(start, "parameter"),
        rounds=ROUNDS,
        rule=RULES[rule],
        codec=codec,
        step=1.0,
        buffers=layout.flatten(start, "buffer"),
    )
    assert 0 < engine.ledger.uploads < ROUNDS * len(DATA)
    for app in (message_app(), numpy_app(), oracle_app()):
        result = run(app, RULES[rule], codec)
        assert not result.ledger.refused
        made = {name: array.numpy() for name, array in result.arrays.items()}
        theta, values = (layout.flatten(made, k) for k in ("parameter", "buffer"))
        assert theta.tobytes() == engine.theta.tobytes()
        assert values.tobytes() == engine.server.buffers.tobytes()
        assert values.tobytes() != layout.flatten(start, "buffer").tobytes()
        assert made["1.num_batches_tracked"] == 5
        ours, theirs = result.ledger, engine.ledger
        assert ours.uploads == theirs.uploads
        assert ours.uplink_bytes == theirs.uplink_bytes
        assert ours.gradient_evaluations == theirs.gradient_evaluations


def test_the_generators_of_pytorch_are_given_back() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = torch.rand(1).item()
        arrays = initial()
        torch.manual_seed(5)
        with all_seeded(7):
            fit(arrays, 0)
        assert torch.rand(1).item() == expected
