"""Coded downloads through Flower: both strategies, both client APIs, evaluation."""

from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.server import SimpleClientManager

from experiments.inprocess import InProcessGrid
from lasg_flwr import simulate
from lasg_flwr.clients import LasgNumPyClient, lasg_mod
from lasg_flwr.oracles import LocalSteps
from lasg_flwr.strategies import LasgResult, LasgStrategy, LegacyLasgStrategy
from tests.problems.flower_app import client_fn_of, vector_of
from tests.problems.least_squares import least_squares
from tests.problems.legacy_proxy import Proxy

pytestmark = pytest.mark.flower

SIZE, ROUNDS = 80, 15
ORACLES = least_squares(workers=5, size=SIZE)
DOWNLINK = "topk:k=4"
OPTIONS: dict[str, Any] = {"step": 0.05, "seed": 3, "downlink": DOWNLINK}

client_fn = client_fn_of(ORACLES.__getitem__)


def grid_of(app: ClientApp | None = None) -> InProcessGrid:
    return InProcessGrid(app or ClientApp(client_fn), len(ORACLES))


def theta_of(arrays: ArrayRecord) -> Any:
    return arrays["theta"].numpy()


def losses_of(result: LasgResult) -> list[Any]:
    return [record["loss"] for record in result.evaluate_metrics_clientapp.values()]


@pytest.mark.parametrize("rule", ["sgd", "wk2", "vr", "pse"])
@pytest.mark.parametrize("codec", ["dense", "topk:k=8"])
def test_flower_and_engine_agree_to_the_bit(rule: str, codec: str) -> None:
    options = {**OPTIONS, "rule": rule, "codec": codec}
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=ROUNDS, **options)
    result = LasgStrategy(**options).start(grid_of(), vector_of(SIZE), ROUNDS)
    assert theta_of(result.arrays).tobytes() == engine.theta.tobytes()
    ours, theirs = result.ledger, engine.ledger
    assert not ours.refused
    assert ours.uploads == theirs.uploads
    assert len(ORACLES) == ours.models <= theirs.models < len(ORACLES) * ROUNDS / 3
    assert 0 < ours.evaluation_bytes < len(ORACLES) * ROUNDS * 4 * SIZE / 2


def test_messages_carry_steps_and_evaluations_nothing_twice() -> None:
    grid = grid_of()
    strategy = LasgStrategy("sgd", **OPTIONS)
    result = strategy.start(grid, vector_of(SIZE), ROUNDS)
    kinds: dict[str, list[int]] = {"fitins": [], "evaluateins": []}
    for message in grid.requests:
        training = message.metadata.message_type == MessageType.TRAIN
        prefix = "fitins" if training else "evaluateins"
        arrays = message.content.array_records[f"{prefix}.parameters"]
        kinds[prefix].append(sum(a.numpy().nbytes for a in arrays.values()))
    count = len(ORACLES)
    assert kinds["fitins"][:count] == [4 * SIZE] * count
    assert max(kinds["fitins"][count:]) == 0  # the evaluation before brought the step
    assert max(kinds["evaluateins"]) < 4 * SIZE
    assert sum(kinds["evaluateins"]) == result.ledger.evaluation_bytes
    assert sum(kinds["fitins"]) == result.ledger.downlink_bytes
    losses = losses_of(result)
    assert len(losses) == ROUNDS
    assert losses[-1] < losses[0]
    small = grid.requests[-count * 2].content.config_records["fitins.config"]
    assert len(small["lasg"]) == 79  # type: ignore[arg-type]
    assert set(small) == {"lasg", "lasg.short", "server-round"}


def test_a_client_that_lost_its_state_gets_the_model_again() -> None:
    grid = grid_of()
    strategy = LasgStrategy("wk2", fraction_evaluate=0.0, **OPTIONS)

    def forget(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 5:
            grid.contexts[993].state = RecordDict()

    result = strategy.start(grid, vector_of(SIZE), ROUNDS, evaluate_fn=forget)
    assert result.ledger.refused == {"no model": 1}
    assert result.ledger.models == len(ORACLES) + 1
    asked = [m for m in grid.requests if m.metadata.dst_node_id == 993]
    assert len(asked) == ROUNDS + 1  # twice in the round that it would have missed
    assert result.ledger.uploads + result.ledger.skips == len(ORACLES) * ROUNDS
    assert result.ledger.downloads == len(ORACLES) * ROUNDS + 1
    first, again = (m.content.config_records["fitins.config"] for m in asked[5:7])
    assert first["server-round"] == again["server-round"] == 6
    held = strategy.server.broadcast.holds[993]
    assert held.id is not None


def test_an_evaluation_that_cannot_be_made_counts_for_nothing() -> None:
    grid = grid_of()
    strategy = LasgStrategy("sgd", **OPTIONS)

    def forget(round_: int, arrays: ArrayRecord) -> None:
        for context in grid.contexts.values():
            context.state = RecordDict()

    result = strategy.start(grid, vector_of(SIZE), 6, evaluate_fn=forget)
    assert np.isfinite(losses_of(result)).all()
    assert result.ledger.refused["no model"] > 0
    assert result.ledger.uploads == 6 * len(ORACLES)  # nobody misses a round


def test_sampled_workers_get_what_they_missed() -> None:
    options = {**OPTIONS, "rule": "sgd", "memory": "error", "codec": "topk:k=8"}
    strategy = LasgStrategy(fraction_train=0.4, fraction_evaluate=0.0, **options)
    result = strategy.start(grid_of(), vector_of(SIZE), 40)
    assert not result.ledger.refused
    assert len(ORACLES) <= result.ledger.models < 40
    several = [
        hold for hold in strategy.server.broadcast.holds.values() if hold.id is not None
    ]
    assert len(several) == len(ORACLES)


def test_other_arrays_from_a_subclass_reach_everybody() -> None:
    class Jumping(LasgStrategy):
        def configure_train(self, server_round: int, arrays: Any, *rest: Any) -> Any:
            if server_round == 4:
                arrays = ArrayRecord({"theta": Array(np.ones(SIZE, np.float32))})
            return super().configure_train(server_round, arrays, *rest)

    strategy = Jumping("sgd", fraction_evaluate=0.0, **OPTIONS)
    result = strategy.start(grid_of(), vector_of(SIZE), 5)
    assert not result.ledger.refused
    assert result.ledger.models == 2 * len(ORACLES)


# --- behind the mod -------------------------------------------------------------------


def app_of() -> ClientApp:
    """A Message-API app that takes local steps and evaluates."""
    app = ClientApp(mods=[lasg_mod])

    def theta(message: Message) -> Any:
        return message.content.array_records["arrays"]["theta"].numpy()

    def oracle(context: Context) -> Any:
        return ORACLES[int(context.node_config["partition-id"])]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        moved = theta(message)
        for _ in range(2):
            rows = np.random.choice(20, 4, replace=False)  # noqa: NPY002
            moved = moved - np.float32(0.05) * oracle(context).gradient(moved, rows)
        content = RecordDict(
            {
                "arrays": ArrayRecord({"theta": Array(moved)}),
                "metrics": MetricRecord({"num-examples": 20}),
            }
        )
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        loss, examples, _ = oracle(context).evaluate(theta(message))
        metrics = MetricRecord({"loss": loss, "num-examples": examples})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


@pytest.mark.parametrize("rule", ["sgd", "wk2"])
def test_an_app_behind_the_mod_needs_to_know_nothing_of_it(rule: str) -> None:
    def run(**options: Any) -> Any:
        strategy = LasgStrategy(rule, step=1.0, seed=3, **options)
        return strategy.start(grid_of(app_of()), vector_of(SIZE), ROUNDS)

    dense, lossless = run(), run(downlink=f"topk:k={SIZE}")
    coded = run(downlink="topk:k=20")
    assert np.allclose(
        theta_of(dense.arrays), theta_of(lossless.arrays), rtol=1e-3, atol=1e-5
    )
    assert dense.ledger.uploads == lossless.ledger.uploads
    assert not coded.ledger.refused
    losses = losses_of(coded)
    assert losses[-1] < losses[0]
    assert coded.ledger.models == len(ORACLES)


# --- the older strategy ---------------------------------------------------------------


def test_the_older_strategy_takes_the_engines_path() -> None:
    local = [LocalSteps(oracle, 2, 0.05) for oracle in ORACLES]
    options: dict[str, Any] = {"rule": "wk2", **OPTIONS, "step": 1.0}
    engine = simulate(local, np.zeros(SIZE), rounds=ROUNDS, **options)
    strategy = LegacyLasgStrategy(
        initial_parameters=ndarrays_to_parameters([np.zeros(SIZE, np.float32)]),
        **options,
    )
    manager = SimpleClientManager()
    for key, oracle in enumerate(local):
        manager.register(Proxy(str(key), LasgNumPyClient(oracle, key=key)))
    parameters = strategy.initialize_parameters(manager)
    assert parameters is not None
    losses: list[Any] = []
    for round_ in range(1, ROUNDS + 1):
        asked = strategy.configure_fit(round_, parameters, manager)
        results: Any = [(p, p.fit(ins, None, 0)) for p, ins in asked]
        parameters, _ = strategy.aggregate_fit(round_, results, [])
        assert parameters is not None
        due = strategy.configure_evaluate(round_, parameters, manager)
        made: Any = [(p, p.evaluate(ins, None, 0)) for p, ins in due]
        losses.append(strategy.aggregate_evaluate(round_, made, [])[0])
    (theta,) = strategy.arrays()
    assert theta.tobytes() == engine.theta.tobytes()
    assert not strategy.ledger.refused
    assert strategy.ledger.models == engine.ledger.models
    assert losses[-1] < losses[0]
