"""What pytest collects: some modules need an extra to be imported."""

from importlib.util import find_spec

collect_ignore = []
if not find_spec("numba"):
    collect_ignore += [
        f"lasg_flwr/codecs/coding/{name}fast.py" for name in ("", "rans_", "deadzone_")
    ]
# projects of their own
collect_ignore_glob = ["experiments/dropin/*-*", "tests/e2e/large/*"]
if not find_spec("torch"):
    collect_ignore_glob += [
        "lasg_flwr/oracles/torch/*.py",
        "tests/problems/torch_*.py",
        "experiments/narrow_resnet.py",
        "experiments/pretraining.py",
        "experiments/benchmark_networks.py",
        "experiments/network*.py",
        "experiments/small_transformer.py",
    ]
