"""Requests <-> Flower records, on both sides.

The model, or the steps to it, travel as one packed array; the head of the request, and
with a dense model the settings and the layout, stand in the config beside the user's
entries.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    RecordDict,
)
from flwr.common import Parameters, Scalar
from numpy.typing import NDArray

from ..config import Settings
from ..errors import WireError
from ..layout import Layout
from ..protocol.heads import Head, settings_from, settings_text
from ..protocol.messages import Request
from ..protocol.versions import Form, HeldModel, Path
from . import packed
from .names import SHORT_KEY, USUAL, check_config
from .records import HEADER_KEY, LAYOUT_KEY, MODEL_KEY, SETTINGS_KEY


class Downloads:
    """The arrays of one batch of requests, each made once and shared by its nodes.

    Parameters
    ----------
    packed : callable
        Returns the packed model; asked for if a request carries it.
    """

    def __init__(self, packed: Callable[[], NDArray[np.uint8]]) -> None:
        self._packed = packed
        self._records: dict[bytes, ArrayRecord] = {}
        self._parameters: dict[bytes, Parameters] = {}

    def _arrays(self, path: Path | None) -> list[NDArray[Any]]:
        if path is None:
            return [self._packed()]
        return [np.frombuffer(path.to_bytes(), np.uint8)] if path.steps else []

    def record(self, request: Request) -> ArrayRecord:
        """Return the array of a request: the packed model, steps, or nothing."""
        base = _base(request)
        if base not in self._records:
            arrays = self._arrays(request.path)
            keys = [MODEL_KEY] * len(arrays)
            named = dict(zip(keys, map(packed.as_array, arrays), strict=True))
            self._records[base] = ArrayRecord(named)
        return self._records[base]

    def message(
        self, node: int, request: Request, config: Mapping[str, Any], kind: str
    ) -> Message:
        """Return a message with a request; `kind` is a `MessageType`."""
        prefix = "fitins" if kind == MessageType.TRAIN else "evaluateins"
        content = RecordDict(
            {
                f"{prefix}.parameters": self.record(request),
                f"{prefix}.config": ConfigRecord(config_of(request, config)),
            }
        )
        return Message(content, node, kind)

    def repeated(self, first: Message, request: Request) -> Message:
        """Return a further training message, with the user's config of the first."""
        config = first.content.config_records["fitins.config"]
        theirs = {n: v for n, v in config.items() if n not in _OURS}
        node = first.metadata.dst_node_id
        return self.message(node, request, theirs, MessageType.TRAIN)

    def parameters(
        self, request: Request, config: Mapping[str, Any]
    ) -> tuple[Parameters, dict[str, Any]]:
        """Return what Flower's older API sends: the array, and the config."""
        base = _base(request)
        if base not in self._parameters:
            self._parameters[base] = packed.parameters_of(self._arrays(request.path))
        return self._parameters[base], config_of(request, config)


_OURS = (HEADER_KEY, SETTINGS_KEY, LAYOUT_KEY)
"""What `config_of` adds to the user's entries."""


def _base(request: Request) -> bytes:
    """Return what a request's array is known by; of a turn, all lead to one model."""
    return b"" if request.path is None else request.path.base


def config_of(request: Request, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a request: the user's entries and ours.

    Raises
    ------
    ValueError
        If one of the user's has a name of ours.
    """
    check_config(config, "the config of a round")
    fields = {**config, HEADER_KEY: request.head().to_bytes()}
    if request.path is None:
        fields[SETTINGS_KEY] = settings_text(request.settings)
        fields[LAYOUT_KEY] = request.form.layout
    return fields


def user_config(config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the entries of a client's config that are not this package's."""
    ours = (*_OURS, SHORT_KEY, *USUAL)
    return {name: value for name, value in config.items() if name not in ours}


def read_head(config: Mapping[str, Scalar]) -> Head:
    """Read the head of a request as a NumPyClient gets it.

    Raises
    ------
    WireError
        If it is not one of this package's, or is damaged.
    """
    header = config.get(HEADER_KEY)
    if not isinstance(header, bytes):
        raise WireError(
            "the server's request carries no lazy-aggregation header: is its strategy "
            "a LasgStrategy?"
        )
    return Head.from_bytes(header)


def read_request(
    parameters: list[NDArray[Any]],
    config: Mapping[str, Scalar],
    held: HeldModel | None = None,
) -> Request | None:
    """Read a request as a NumPyClient gets it; the user's config goes along.

    Parameters
    ----------
    parameters, config
        What the client got.
    held : HeldModel, optional
        The model that it keeps: settings and layout come from it where steps travel.

    Returns
    -------
    Request or None
        None where steps came, and no model is held that they could lead on from.

    Raises
    ------
    WireError
        If it is not one of this package's, or is damaged.
    """
    head = read_head(config)
    user = user_config(config)
    if head.has_path:
        if held is None or head.model is None:
            return None
        data = _packed(parameters).tobytes() if parameters else b""
        path = Path.from_bytes(data, head.model)
        request = Request.of(
            head, held.settings, held.theta, held.buffers, held.form, path
        )
        return request._replace(config=user)
    theta, buffers, integers = read_layout(config).split(_packed(parameters))
    settings = settings_from(str(config.get(SETTINGS_KEY)))
    form = Form(str(config[LAYOUT_KEY]), integers)
    return Request.of(head, settings, theta, buffers, form)._replace(config=user)


def read_settings(config: Mapping[str, Scalar]) -> Settings | None:
    """Return the settings of a request; None where only steps travel.

    Raises
    ------
    WireError
        If they are missing or damaged.
    """
    if read_head(config).has_path:
        return None
    return settings_from(str(config.get(SETTINGS_KEY)))


def read_layout(config: Mapping[str, Scalar]) -> Layout:
    """Return the layout that travels in a request's config.

    Raises
    ------
    WireError
        If there is none.
    """
    text = config.get(LAYOUT_KEY)
    if not isinstance(text, str):
        raise WireError(
            "the server's message carries no model layout: is its strategy a "
            "LasgStrategy?"
        )
    return Layout.from_json(text)


def _packed(parameters: list[NDArray[Any]]) -> NDArray[np.uint8]:
    if len(parameters) != 1:
        raise WireError(f"expected one packed array, the message has {len(parameters)}")
    packed = np.asarray(parameters[0])
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise WireError(f"expected packed bytes, got {packed.dtype}, {packed.shape}")
    return packed
