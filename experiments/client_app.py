"""The ClientApp of ``flwr run .``: logistic regression on one partition."""

from flwr.app import Context
from flwr.client import Client
from flwr.clientapp import ClientApp

from lasg_flwr.clients import LasgNumPyClient

from .app_task import client_oracle


def client_fn(context: Context) -> Client:
    """Build the client of one message; its state lives in the context."""
    return LasgNumPyClient(client_oracle(context), context).to_client()


app = ClientApp(client_fn=client_fn)
