"""A lasting client process: ``python -m tests.problems.legacy_client ADDRESS KEY``."""

import sys

from flwr.client import start_client

from lasg_flwr.clients import LasgNumPyClient
from tests.problems.least_squares import least_squares

if __name__ == "__main__":
    address, key = sys.argv[1], int(sys.argv[2])
    oracle = least_squares(workers=3)[key]
    client = LasgNumPyClient(oracle, key=key).to_client()
    start_client(server_address=address, client=client, max_wait_time=30)
