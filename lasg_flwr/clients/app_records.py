"""A server's messages <-> the records that an existing ClientApp knows."""

import copy
from collections.abc import Mapping
from typing import Any, cast

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.common import Scalar
from flwr.common.constant import SType
from numpy.typing import NDArray

from ..checks import MOST_EXAMPLES
from ..errors import WireError
from ..flower import names, packed, records, requests


def is_train_request(content: RecordDict) -> bool:
    """Return whether a training message comes from this package's strategies."""
    return (
        records.field(content.config_records, "fitins.config", records.HEADER_KEY)
        is not None
    )


def is_evaluate_request(content: RecordDict) -> bool:
    """Return whether an evaluation message comes from this package's strategies."""
    return (
        records.field(content.config_records, "evaluateins.config", records.HEADER_KEY)
        is not None
    )


def numpy_parts(content: RecordDict) -> tuple[list[NDArray[Any]], dict[str, Scalar]]:
    """Return arrays and config of a request, as a NumPyClient would get them.

    Raises
    ------
    WireError
        If the message has no packed model.
    """
    prefix = "fitins" if "fitins.config" in content.config_records else "evaluateins"
    arrays = content.array_records.get(f"{prefix}.parameters")
    if arrays is None or len(arrays) > 1:
        raise WireError("the request carries no packed model, and no steps to one")
    config = content.config_records[f"{prefix}.config"]
    values = cast(dict[str, Scalar], dict(config))
    return [packed.array_of(array) for array in arrays.values()], values


def app_content(
    arrays: Mapping[str, NDArray[Any]],
    config: Mapping[str, Scalar],
    prefix: str = "fitins",
) -> RecordDict:
    """Return a model and a request's config as ClientApps of both kinds expect them."""
    named = records.named_arrays(arrays)
    by_position = {str(i): array for i, array in enumerate(named.values())}
    values = ConfigRecord(dict(requests.user_config(config)))
    return RecordDict(
        {
            str(config.get(names.APP_ARRAYS_KEY, names.ARRAYS_KEY)): named,
            str(config.get(names.APP_CONFIG_KEY, names.CONFIG_KEY)): values,
            f"{prefix}.parameters": ArrayRecord(by_position),
            f"{prefix}.config": values,
        }
    )


def with_content(message: Message, content: RecordDict) -> Message:
    """Return a copy of a message that carries something else."""
    changed = copy.copy(message)
    changed.content = content
    return changed


def app_reply(
    content: RecordDict, names: list[str], weight: str = records.EXAMPLES_KEY
) -> tuple[dict[str, NDArray[Any]], int, dict[str, Any]]:
    """Return the trained arrays, the number of examples and the metrics of an app.

    Parameters
    ----------
    content : RecordDict
        The app's reply, of either kind.
    names : list of str
        Names of the model's arrays, for replies that carry them by position.
    weight : str
        Which metric is the number of examples.

    Raises
    ------
    WireError
        If there is no model, not all of it, or no number of examples.
    """
    if len(content.array_records) != 1:
        raise WireError(
            f"the ClientApp's reply has {len(content.array_records)} ArrayRecords, "
            "expected the trained model in one"
        )
    metrics: dict[str, Any] = {}
    for numbers in content.metric_records.values():
        metrics.update(numbers)
    for name, values in content.config_records.items():
        if name.endswith(".metrics"):
            metrics.update(values)
    examples = _app_examples(metrics, weight)
    (record,) = content.array_records.values()
    arrays = [array.numpy() for array in record.values() if array.data]
    if len(arrays) != len(names):
        raise WireError(
            f"the ClientApp returned {len(arrays)} arrays, the model has {len(names)}: "
            "return the whole model, in the form in which it came"
        )
    found = list(record) if set(record) == set(names) else names
    return dict(zip(found, arrays, strict=True)), examples, metrics


def _app_examples(metrics: dict[str, Any], weight: str) -> int:
    """Take the number of examples out of an app's metrics."""
    known = metrics.pop(records.EXAMPLES_KEY, metrics.pop("num_examples", None))
    examples = known if weight == records.EXAMPLES_KEY else metrics.get(weight)
    if isinstance(examples, bool) or not isinstance(examples, int | float):
        raise WireError(
            "the ClientApp did not report on how many examples it trained: put "
            f"{weight!r} into the MetricRecord of its reply"
        )
    if not 1 <= examples <= MOST_EXAMPLES or int(examples) != examples:
        raise WireError(
            f"the ClientApp reported {examples!r} training examples, as {weight!r}, "
            f"expected a whole number from 1 to {MOST_EXAMPLES}: a client without "
            "training data cannot take part; leave it out, or give it data"
        )
    return int(examples)


def fit_result(
    arrays: list[NDArray[Any]],
    examples: int,
    metrics: Mapping[str, Any],
    short: bool = False,
) -> RecordDict:
    """Return a training reply with the records that a NumPyClient's has.

    Metrics that are lists of numbers, which its API lacks, have one of their own. A
    short reply lacks status and number of examples, which its header has too.
    """
    nothing = Array(dtype="", shape=(), stype=SType.NUMPY, data=b"")
    sent = {"0": packed.as_array(arrays[0])} if arrays else {"_empty": nothing}
    lists: dict[str, Any] = {n: v for n, v in metrics.items() if isinstance(v, list)}
    scalars = {name: v for name, v in metrics.items() if name not in lists}
    content = RecordDict(
        {
            "fitres.parameters": ArrayRecord(sent),
            "fitres.metrics": ConfigRecord(scalars),
        }
    )
    if not short or records.HEADER_KEY not in metrics:
        content["fitres.num_examples"] = MetricRecord({"num_examples": examples})
        content["fitres.status"] = ConfigRecord({"code": 0, "message": "Success"})
    if lists:
        content[records.LISTS_KEY] = MetricRecord(lists)
    return content


def evaluate_result(
    loss: float, examples: int, metrics: Mapping[str, Scalar]
) -> RecordDict:
    """Return an evaluation reply with the records that a NumPyClient's has."""
    return RecordDict(
        {
            "evaluateres.loss": MetricRecord({"loss": loss}),
            "evaluateres.num_examples": MetricRecord({"num_examples": examples}),
            "evaluateres.metrics": ConfigRecord(dict(metrics)),
            "evaluateres.status": ConfigRecord({"code": 0, "message": "Success"}),
        }
    )
