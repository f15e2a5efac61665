"""Replies <-> Flower records, and the names that both directions share.

The names are always those of the NumPyClient API, so that one strategy serves clients
of either kind. A payload travels as one packed array, everything else of a reply in its
metrics; for requests see `lasg_flwr.flower.requests`.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.common import EvaluateRes, FitRes
from flwr.common.constant import SType
from numpy.typing import NDArray

from ..checks import quoted
from ..errors import WireError
from ..protocol.messages import Reply
from . import packed
from .metrics import LEFT_OUT_KEY, named, numbers, sorted_out, without_odd_ones
from .names import ARRAYS_KEY as ARRAYS_KEY
from .names import CONFIG_KEY as CONFIG_KEY
from .names import EXAMPLES_KEY as EXAMPLES_KEY
from .names import SEED_KEY as SEED_KEY
from .names import is_own

MODEL_KEY = "lasg.model"
HEADER_KEY = "lasg"
UPDATE_KEY = "lasg.update"
"""In a reply's metrics: the gradient is a pseudo-gradient, its step must be 1."""
SETTINGS_KEY = "lasg.settings"
LAYOUT_KEY = "lasg.layout"
"""In a request that carries the dense model: what goes with it."""
LISTS_KEY = "fitres.lists"
"""The record of a reply with metrics that are lists of numbers, behind `lasg_mod`."""


def named_arrays(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Return arrays as a record, under their names."""
    return ArrayRecord({name: packed.as_array(a) for name, a in arrays.items()})


def reply_parts(
    reply: Reply | None, metrics: Mapping[str, Any] | None, with_lists: bool = False
) -> tuple[list[NDArray[Any]], dict[str, Any]]:
    """Return arrays and metrics of a NumPyClient's fit result; None is an empty one.

    Metrics that cannot be sent are left out, and named; `with_lists` where lists of
    numbers can be.
    """
    if reply is None:
        return [], {}
    arrays = [np.frombuffer(body, np.uint8)] if (body := reply.body()) else []
    values = plain_metrics(metrics or {}, with_lists)
    return cast(list[NDArray[Any]], arrays), {**values, HEADER_KEY: reply.header()}


def plain_metrics(
    values: Mapping[str, Any], with_lists: bool = False
) -> dict[str, Any]:
    """Return the metrics that a client may return, and the others' names."""
    good, odd = sorted_out(values)
    lists = [n for n, v in good.items() if isinstance(v, list) and not with_lists]
    odd += [f"{name} (list)" for name in lists]
    scalars = {name: good[name] for name in good if name not in lists}
    return {**scalars, LEFT_OUT_KEY: named(odd)} if odd else scalars


def left_out(content: RecordDict) -> str:
    """Return the names of a training reply's metrics that could not be sent or read."""
    reported = content.config_records.get("fitres.metrics") or ConfigRecord()
    said = reported.get(LEFT_OUT_KEY, "")
    odd = [quoted(said)] if said else []
    lists = content.metric_records.get(LISTS_KEY) or MetricRecord()
    for values in (reported, lists):
        odd += sorted_out({n: v for n, v in values.items() if not is_own(n)})[1]
    return named(odd)


def field(
    found: Mapping[str, ConfigRecord] | Mapping[str, MetricRecord],
    record: str,
    name: str,
) -> Any:
    """Return one field of one record, None where either is missing."""
    return found[record].get(name) if record in found else None


def carries_payload(message: Message) -> bool:
    """Return whether a training reply has an array with something in it."""
    if message.has_error():
        return False
    arrays = message.content.array_records.get("fitres.parameters")
    return arrays is not None and any(array.data for array in arrays.values())


def read_reply(content: RecordDict) -> Reply | None:
    """Read a training reply; None for one without a header, which says nothing.

    Raises
    ------
    WireError
        If the reply is malformed.
    """
    header = field(content.config_records, "fitres.metrics", HEADER_KEY)
    if header is None:
        return None
    if not isinstance(header, bytes):
        raise WireError("malformed: the header of a reply is not bytes")
    arrays = content.array_records.get("fitres.parameters")
    if arrays is None or len(arrays) != 1:
        raise WireError("malformed: a reply must have exactly one array")
    (array,) = arrays.values()
    if array.data and array.stype != SType.NUMPY:
        raise WireError(f"malformed: the array of a reply is a {array.stype[:40]!r}")
    return Reply.from_header(header, packed.read(array.data) if array.data else b"")


def read_evaluation(content: RecordDict) -> Reply | None:
    """Read what an evaluation reply says of the model; None where it says nothing.

    Raises
    ------
    WireError
        If what it says is malformed.
    """
    found = content.config_records
    header = field(found, "evaluateres.metrics", HEADER_KEY)
    if header is None:
        header = field(found, HEADER_KEY, HEADER_KEY)
    return _evaluation(header)


def read_evaluate_result(result: EvaluateRes) -> Reply | None:
    """Read what an evaluation of Flower's older API says of the model, likewise.

    Raises
    ------
    WireError
        If what it says is malformed.
    """
    return _evaluation(result.metrics.get(HEADER_KEY))


def _evaluation(header: Any) -> Reply | None:
    if header is None:
        return None
    if not isinstance(header, bytes):
        raise WireError("malformed: the header of a reply is not bytes")
    return Reply.from_header(header, b"")


def read_fit_result(result: FitRes) -> Reply | None:
    """Read a training reply of Flower's older API, likewise.

    Raises
    ------
    WireError
        If the reply is malformed.
    """
    header, tensors = result.metrics.get(HEADER_KEY), result.parameters.tensors
    if header is None:
        return None
    if not isinstance(header, bytes) or len(tensors) > 1:
        raise WireError("malformed: no header, or more than one array")
    return Reply.from_header(header, packed.read(tensors[0]) if tensors else b"")


def is_full_answer(content: RecordDict) -> bool:
    """Return whether a training reply has a model, or anything, in its arrays."""
    return any(
        array.data
        for record in content.array_records.values()
        for array in record.values()
    )


def is_update(content: RecordDict) -> bool:
    """Return whether a training reply is about a pseudo-gradient."""
    return field(content.config_records, "fitres.metrics", UPDATE_KEY) is True


def train_metrics(content: RecordDict) -> RecordDict:
    """Return a reply's own metrics in the form that aggregation functions expect."""
    if "fitres.num_examples" in content.metric_records:
        return _metrics(content, "fitres", {})
    reply = read_reply(content)  # a short one
    return _metrics(content, "fitres", {}, None if reply is None else reply.examples)


def evaluate_metrics(
    content: RecordDict, weighted_by_key: str = EXAMPLES_KEY
) -> RecordDict:
    """Return an evaluation reply's loss and metrics, likewise.

    A Message-API app's reply is in that form already.

    Raises
    ------
    WireError
        If the reply is not one of a NumPyClient.
    """
    for record in content.metric_records.values():
        if weighted_by_key in record:
            return without_odd_ones(content)
    loss = field(content.metric_records, "evaluateres.loss", "loss")
    if not isinstance(loss, float | int):
        raise WireError("malformed: an evaluation reply without a loss")
    return _metrics(content, "evaluateres", {"loss": loss})


def _metrics(
    content: RecordDict,
    prefix: str,
    values: dict[str, float | int],
    examples: int | None = None,
) -> RecordDict:
    if examples is None:
        record = f"{prefix}.num_examples"
        examples = field(content.metric_records, record, "num_examples")
    if not isinstance(examples, int) or examples < 0:
        raise WireError("malformed: a reply without its number of examples")
    reported = content.config_records.get(f"{prefix}.metrics") or ConfigRecord()
    lists = content.metric_records.get(f"{prefix}.lists") or MetricRecord()
    told = {n: v for n, v in {**reported, **lists}.items() if not is_own(n)}
    found = {**numbers(told), EXAMPLES_KEY: examples, **values}
    return RecordDict({"metrics": MetricRecord(found)})
