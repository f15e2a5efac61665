"""A lasting client of Flower's older API, in this process."""

from typing import Any

from flwr.client import Client
from flwr.common import EvaluateIns, EvaluateRes, FitIns, FitRes
from flwr.server.client_proxy import ClientProxy

from lasg_flwr.clients import LasgNumPyClient


class Proxy(ClientProxy):
    """Nothing is called but where there is a client."""

    def __init__(self, cid: str, client: LasgNumPyClient | None = None) -> None:
        super().__init__(cid)
        self.client = client

    def fit(self, ins: FitIns, timeout: float | None, group_id: int | None) -> FitRes:
        assert self.client is not None
        return self.client.to_client().fit(ins)

    def evaluate(
        self, ins: EvaluateIns, timeout: float | None, group_id: int | None
    ) -> EvaluateRes:
        assert self.client is not None
        return self.client.to_client().evaluate(ins)

    def _none(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    get_properties = get_parameters = reconnect = _none


class ClientProxyOf(Proxy):
    """Any client, in this process; it trains and evaluates."""

    def __init__(self, cid: str, client: Client) -> None:
        super().__init__(cid)
        self._client = client

    def fit(self, ins: FitIns, timeout: float | None, group_id: int | None) -> FitRes:
        return self._client.fit(ins)

    def evaluate(
        self, ins: EvaluateIns, timeout: float | None, group_id: int | None
    ) -> EvaluateRes:
        return self._client.evaluate(ins)
