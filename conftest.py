"""What pytest collects: some modules need an extra to be imported."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("numba") else ["lasg_flwr/coding/fast.py"]
collect_ignore_glob = (
    []
    if find_spec("torch")
    else ["lasg_flwr/clients/torch_*.py", "experiments/network*.py"]
)
