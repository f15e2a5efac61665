"""What pytest collects: compiled loops can be imported only with the extra ``fast``."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("numba") else ["lasg_flwr/coding/fast.py"]
collect_ignore_glob = ["experiments/dropin/*-*"]  # projects of their own
if not find_spec("torch"):
    collect_ignore.append("experiments/dropin/measure.py")
