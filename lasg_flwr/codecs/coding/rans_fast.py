"""The loops of `rans_loops`, compiled by numba (extra ``fast``)."""

from . import rans_loops
from .fast import compiled

contexts = compiled(rans_loops.contexts)
encode = compiled(rans_loops.encode)
decode = compiled(rans_loops.decode)
