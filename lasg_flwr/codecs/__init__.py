"""The codecs, one file each, and their registry."""

from ..registry import spec_of
from . import wire
from .base import CODECS, Codec, codec_from
from .dense import Dense
from .ecsq import ECSQ
from .float16 import Float16
from .natural import Natural
from .qsgd import QSGD
from .randk import RandK
from .sign import Sign
from .topk import TopK
from .topk_qsgd import TopKQSGD
from .uniform import Uniform

CODECS.discover(__name__)
wire.check_tags(CODECS.classes.values())


__all__ = [
    "CODECS",
    "ECSQ",
    "QSGD",
    "Codec",
    "Dense",
    "Float16",
    "Natural",
    "RandK",
    "Sign",
    "TopK",
    "TopKQSGD",
    "Uniform",
    "codec_from",
    "spec_of",
]
