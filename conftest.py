"""What pytest collects: some modules need an extra to be imported."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("numba") else ["lasg_flwr/coding/fast.py"]
collect_ignore_glob = ["experiments/dropin/*-*"]  # projects of their own
if not find_spec("torch"):
    collect_ignore_glob += [
        "lasg_flwr/clients/torch_*.py",
        "experiments/narrow_resnet.py",
        "experiments/pretraining.py",
        "experiments/network*.py",
    ]
