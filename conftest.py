"""What pytest collects: compiled loops can be imported only with the extra ``fast``."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("numba") else ["lasg_flwr/coding/fast.py"]
