"""Coded downloads: the ring, doubts, paths, and what is known of θ − θ̂."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lasg_flwr import Oracle, WireError, simulate
from lasg_flwr.codecs import TopK, codec_from
from lasg_flwr.config import Settings
from lasg_flwr.oracles import LocalSteps
from lasg_flwr.protocol import LasgServer, LasgWorker
from lasg_flwr.protocol.messages import Reply
from lasg_flwr.protocol.saving import capture, dump_worker, load_worker, restore
from lasg_flwr.protocol.serving import evaluated
from lasg_flwr.protocol.versions import (
    NO_FORM,
    Form,
    HeldModel,
    Path,
    Step,
    apply_step,
    encode_step,
    follow,
    model_id,
    setup_digest,
)
from lasg_flwr.vectors import F32, NO_BUFFERS, squared_distance
from tests.problems.least_squares import Running, least_squares
from tests.problems.servers import server_for

SIZE = 60
CODEC = TopK(k=6)
ORACLES: list[Any] = least_squares(4, size=SIZE, examples=30)
SETTINGS = Settings("sgd", "dense", "innovation", "per-worker", 0, downlink="topk:k=6")


def _server(**options: Any) -> LasgServer:
    options = {"rule": "sgd", "step": 0.05, "downlink": "topk:k=6", **options}
    return server_for(np.zeros(SIZE), **options)


def _round(server: LasgServer, workers: list[LasgWorker]) -> list[Reply]:
    replies = []
    for node, request in server.open_round(range(len(workers))):
        reply = workers[node].handle(request)
        assert reply is not None
        server.receive(node, reply)
        replies.append(reply)
    server.close_round()
    return replies


def _workers() -> list[LasgWorker]:
    return [LasgWorker(oracle, key) for key, oracle in enumerate(ORACLES)]


# --- laws -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["sgd", "wk2", "vr", "pse"])
def test_a_lossless_codec_agrees_with_dense_to_rounding(rule: str) -> None:
    made = [
        simulate(
            ORACLES, np.zeros(SIZE), rounds=50, rule=rule, step=0.05, downlink=downlink
        )
        for downlink in ("dense", f"topk:k={SIZE}")
    ]
    dense, coded = (result.theta for result in made)
    assert np.allclose(dense, coded, rtol=1e-4, atol=1e-6)
    assert made[0].ledger.uploads == made[1].ledger.uploads


@pytest.mark.parametrize(
    "downlink", ["topk:k=6", "topk:fraction=0.5", "sign", "ecsq:error=0.3"]
)
@pytest.mark.parametrize("rule", ["sgd", "wk2"])
def test_what_workers_hold_stays_near(rule: str, downlink: str) -> None:
    """‖θ − θ̂‖ ≤ √ε/(1 − √ε) · max ‖Δθ‖ on the whole path, with 1 − ε = α."""
    error = 1 - (codec_from(downlink).alpha(SIZE) or 0)
    bound = sqrt(error) / (1 - sqrt(error))
    longest, gaps, last = 0.0, [], np.zeros(SIZE, np.float32)

    def look(server: LasgServer, report: Any) -> None:
        nonlocal longest, last
        longest = max(longest, squared_distance(server.theta, last))
        last = server.theta
        gaps.append(squared_distance(server.theta, server.broadcast.theta))
        assert sqrt(gaps[-1]) <= bound * sqrt(longest) * (1 + 1e-4)

    options: dict[str, Any] = {"rule": rule, "step": 0.05, "downlink": downlink}
    simulate(ORACLES, np.zeros(SIZE), rounds=150, callback=look, **options)
    assert max(gaps) > 0


def test_the_result_is_theta_and_it_converges() -> None:
    """Training at θ̂ with a tenth of the coordinates a round ends where SGD ends."""
    plain, coded = (
        simulate(
            ORACLES, np.zeros(SIZE), rounds=400, rule="sgd", step=0.05, downlink=codec
        )
        for codec in ("dense", "topk:k=6")
    )
    losses = [
        np.mean([oracle.evaluate(result.theta)[0] for oracle in ORACLES])
        for result in (plain, coded)
    ]
    assert losses[1] <= 1.02 * losses[0]
    assert coded.theta.tobytes() != coded.server.broadcast.theta.tobytes()
    assert coded.ledger.downlink_bytes < plain.ledger.downlink_bytes / 2
    assert coded.ledger.models == len(ORACLES)  # the first one, for each
    held = [worker.state.model for worker in coded.workers]
    assert len({id(model.theta) for model in held if model is not None}) == 1


def test_local_steps_and_buffers_go_along() -> None:
    local = [LocalSteps(Running(oracle), 3, 0.02) for oracle in ORACLES]
    result = simulate(
        local,
        np.zeros(SIZE),
        rounds=30,
        rule="sgd",
        step=1.0,
        buffers=np.zeros(Running.width),
        downlink="topk:fraction=0.2",
    )
    held = [worker.state.model for worker in result.workers]
    sent = {m.buffers.tobytes() for m in held if m is not None}
    assert len(sent) == 1  # all saw the same buffers in the last round
    assert result.server.broadcast.buffers.tobytes() == result.server.buffers.tobytes()


def test_dense_keeps_no_model_and_no_ring() -> None:
    result = simulate(ORACLES, np.zeros(SIZE), rounds=5, rule="sgd", step=0.05)
    assert all(worker.state.model is None for worker in result.workers)
    assert not result.server.broadcast.ring
    assert result.server.broadcast.theta is result.theta


def test_a_downlink_must_contract() -> None:
    with pytest.raises(ValueError, match="downlink 'qsgd:bits=2' is no contraction"):
        _server(downlink="qsgd:bits=2")
    with pytest.raises(ValueError, match="unknown codec 'zip'"):
        _server(downlink="zip")


# --- who gets what --------------------------------------------------------------------


def test_steps_for_who_is_near_and_the_model_for_who_is_far() -> None:
    server, workers = _server(), _workers()
    first = dict(server.open_round(range(4)))
    assert all(request.path is None for request in first.values())
    for node, request in first.items():
        reply = workers[node].handle(request)
        assert reply is not None
        assert reply.holds == request.model
        if node:
            server.receive(node, reply)
    server.close_round()
    second = dict(server.open_round(range(4)))
    assert second[0].path is None  # it said nothing
    assert second[1].path is not None
    assert len(second[1].path.steps) == 1
    assert second[1].path is second[2].path  # one path for all at one version
    server.close_round()
    for _ in range(200):
        server.close_round() if server._open else server.open_round([])
    assert sum(len(s.payload) + 16 for s in server.broadcast.ring) <= 4 * SIZE
    third = dict(server.open_round(range(4)))
    assert third[1].path is None  # its version is not in the ring any more


def test_an_evaluation_and_an_idle_round_cost_nothing_more() -> None:
    server, workers = _server(), _workers()
    _round(server, workers)
    ((_, asked),) = server.broadcast.evaluate([0], server.round)
    assert asked.path is not None
    state, found, reply = evaluated(workers[0].state, 0, asked.head(), asked)
    assert found is not None
    assert reply is not None
    assert found.theta.tobytes() == server.broadcast.theta.tobytes()
    assert server.broadcast.evaluated(0, reply)
    assert not server.broadcast.evaluated(0, reply)  # once
    workers[0].state = state
    requests = dict(server.open_round(range(4)))
    assert requests[0].path == Path(server.broadcast.model or b"")
    assert requests[0].path_bytes == 0
    again = workers[0].handle(requests[0])
    assert again is not None
    assert server.receive(0, again).kept


def test_doubts_grow_while_steps_fail_and_end_with_the_first_that_leads_on() -> None:
    """A worker that forgets its model at once gets steps less and less often."""
    server, workers = _server(), _workers()
    sent = []
    for _ in range(140):
        requests = dict(server.open_round(range(4)))
        for node, request in requests.items():
            if node == 0:
                sent.append(request.path is not None)
                workers[0].state = workers[0].state._replace(model=None)
            reply = workers[node].handle(request)
            assert reply is not None
            server.receive(node, reply)
        server.close_round()
    places = [i for i, path in enumerate(sent) if path]
    gaps = np.diff(places).tolist()
    assert gaps == [2, 3, 7, 15, 31, 63][: len(gaps)]
    assert server.ledger.refused["no model"] == len(places)
    for _ in range(300):
        _round(server, workers)  # it keeps its model from now on
        if server.broadcast.holds[0].doubts == 0:
            break
    assert server.broadcast.holds[0].doubts == 0
    assert dict(server.open_round([0]))[0].path is not None


def test_a_restored_server_goes_on_with_its_own_model() -> None:
    server, workers = _server(), _workers()
    for _ in range(3):
        _round(server, workers)
    arrays, meta = capture(server)
    again = _server()
    restore(again, type(capture(server))(arrays, meta))
    assert again.broadcast.theta.tobytes() == server.broadcast.theta.tobytes()
    assert again.broadcast.model == server.broadcast.model
    assert again.broadcast.theta.tobytes() != again.theta.tobytes()
    replies = _round(again, workers)  # nobody needs the dense model
    assert {reply.kind for reply in replies} == {"full"}
    assert again.ledger.models == len(workers)


def test_a_report_is_bound_to_its_session_and_cannot_come_from_the_future() -> None:
    server, workers = _server(), _workers()
    _round(server, workers)
    held = server.broadcast.holds[0]
    lie = Reply(server.session, 0, 0, None, "skip", holds=b"x" * 16)
    for reply in (
        lie._replace(session=bytes(16), turn=5),
        lie._replace(turn=0),
        lie._replace(turn=1 << 60),
    ):
        server.receive(0, reply)
        assert server.broadcast.holds[0] == held
    server.receive(0, lie._replace(turn=1))  # its own belief is all that it can harm
    assert dict(server.open_round([0]))[0].path is None


def test_other_arrays_from_outside_begin_a_new_chain() -> None:
    server, workers = _server(), _workers()
    _round(server, workers)
    theta = np.ones(SIZE, np.float32)
    server.theta = theta
    server.broadcast.start_anew(theta, NO_BUFFERS, NO_FORM)
    assert {request.path for _, request in server.open_round(range(4))} == {None}


# --- paths from a peer that is not trusted --------------------------------------------


def _model(theta: F32, form: Form = NO_FORM) -> HeldModel:
    id_ = model_id(setup_digest(SETTINGS, form), theta)
    return HeldModel(id_, theta, NO_BUFFERS, SETTINGS, form)


def _chain(count: int) -> tuple[list[HeldModel], Path]:
    """Return versions, and the path through all of them."""
    rng = np.random.default_rng(0)
    models = [_model(np.zeros(SIZE, np.float32))]
    steps = []
    for _ in range(count):
        payload = encode_step(
            CODEC, rng.normal(size=SIZE).astype("f4"), NO_BUFFERS, None
        )
        theta, _ = apply_step(CODEC, payload, models[-1].theta, NO_BUFFERS)
        models.append(_model(theta))
        steps.append(Step(models[-1].id, payload))
    return models, Path(models[0].id, tuple(steps))


def test_whoever_is_on_the_way_takes_only_the_steps_that_are_left() -> None:
    models, path = _chain(5)
    for model in models:
        found = follow(model, path, models[-1].id)
        assert found is not None
        assert found.theta.tobytes() == models[-1].theta.tobytes()
        assert found.id == models[-1].id
    stranger = _model(np.full(SIZE, 7, np.float32))
    assert follow(stranger, path, models[-1].id) is None
    assert follow(models[0], path, models[-2].id) is None  # another target


def test_another_setup_is_another_model() -> None:
    models, path = _chain(2)
    other = models[0]._replace(form=Form("other names"))
    assert follow(other, path, models[-1].id) is None


@given(st.data())
@settings(derandomize=True, deadline=None, max_examples=150)
def test_damaged_paths_lead_nowhere(data: st.DataObject) -> None:
    models, path = _chain(3)
    good = path.to_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    kind = data.draw(st.sampled_from(["flip", "cut", "random"]))
    if kind == "flip":
        bad[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        bad = bad[: max(place, 1)]
    else:
        bad[place:] = data.draw(st.binary(max_size=80))
    try:
        read = Path.from_bytes(bytes(bad), models[-1].id)
    except WireError:
        return
    found = follow(models[0], read, models[-1].id)
    assert found is None or found.theta.tobytes() == models[-1].theta.tobytes()


def test_a_claimed_length_takes_no_memory() -> None:
    head = bytes(16) + b"i" * 16 + (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(WireError, match="only 3 are left"):
        Path.from_bytes(head + b"abc", bytes(16))


# --- state ----------------------------------------------------------------------------


def test_a_workers_model_is_saved_with_its_settings_and_verified() -> None:
    server, workers = _server(rule="wk2", form=Form("names", b"12")), _workers()
    for _ in range(3):
        _round(server, workers)
    state = workers[0].state
    assert state.model is not None
    data = dump_worker(state, server.settings)
    for settings_ in (None, server.settings):  # steps bring no settings along
        again = load_worker(data, settings_)
        assert again.model is not None
        assert again.model.id == state.model.id
        assert again.model.form == Form("names", b"12")
        assert again.model.settings == server.settings
        assert again.model.theta.tobytes() == state.model.theta.tobytes()
    tampered = state._replace(model=state.model._replace(theta=state.model.theta + 1))
    ((_, request),) = server.open_round([0])
    workers[0].state = tampered
    reply = workers[0].handle(request)
    assert reply is not None
    assert reply.kind == "no-model"  # the step leads to another hash
    assert workers[0].state is tampered


class _Failing(Oracle):
    num_examples = 1
    size = SIZE

    def draw(self, rng: np.random.Generator) -> None:
        return None

    def gradient(self, theta: F32, batch: None) -> F32:
        raise RuntimeError("no")


def test_a_round_that_fails_leaves_the_model_as_it_was() -> None:
    server = _server()
    worker = LasgWorker(_Failing(), 0)
    ((_, request),) = server.open_round([0])
    before = worker.state
    with pytest.raises(RuntimeError):
        worker.handle(request)
    assert worker.state is before
