"""Everything that a run is told: one frozen value, checked when it is made.

`LasgConfig` is what a user chooses; server, strategies, engine and command line are
built from it. `Settings` is the part of it that travels to the workers.
"""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from math import sqrt
from typing import Any, Literal
from warnings import warn

from .checks import real, whole
from .codecs import Codec, codec_from
from .codecs.assignment import CodecChoice, assigned_codecs, assignment_spec
from .memory import Memory, memory_from, memory_name
from .optim import ServerStep, step_from
from .registry import spec_of
from .rules import Rule, rule_from, worker_spec
from .vectors import F32, F64, squared_distance

MemoryName = Literal["innovation", "gradient", "error-feedback", "error"]
ServerMemoryName = Literal["per-worker", "sum-only"]
Weighting = Literal["equal", "examples"]

LARGE_C = 4.0
"""A c above this is unsafe with updates of a model."""
DENSE = "dense"

U64 = 1 << 64
"""One more than the largest seed, round or key."""


@dataclass(frozen=True)
class Settings:
    """What server and workers agree on for a run; chosen on the server alone.

    Attributes
    ----------
    rule, codec : str
        String forms. The worker's form of a rule has neither c nor L_m; the codec may
        be an assignment to workers, see `lasg_flwr.codecs.assignment`.
    memory, server_memory, seed, downlink
        See `LasgConfig`.
    """

    rule: str
    codec: str
    memory: str
    server_memory: str
    seed: int
    downlink: str = DENSE

    def __post_init__(self) -> None:
        for name in ("rule", "codec", "downlink"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"bad {name} {getattr(self, name)!r}: give its string")
        object.__setattr__(self, "memory", memory_name(self.memory))
        object.__setattr__(self, "seed", whole("seed", self.seed, most=U64 - 1))
        codecs = assigned_codecs(self.codec)
        self.memory_object.check(codecs, self.rule_object.decided_by)
        _ = self.downlink_codec

    @cached_property
    def downlink_codec(self) -> Codec:
        """How steps of the model are encoded."""
        return codec_from(self.downlink)

    @property
    def codes_downloads(self) -> bool:
        """Whether workers keep the model, and get steps of it."""
        return self.downlink != DENSE

    @cached_property
    def rule_object(self) -> Rule[Any]:
        """The rule, as workers know it."""
        return rule_from(self.rule)

    @cached_property
    def memory_object(self) -> Memory:
        """The memory."""
        lossless = all(codec.lossless for codec in assigned_codecs(self.codec))
        return memory_from(self.memory, self.server_memory, lossless)


@dataclass(frozen=True)
class LasgConfig:
    """What a run is told, whatever drives it.

    Parameters
    ----------
    rule : str or Rule (default: "vr")
        Who uploads: ``"vr"``, the paper's ``"wk1"``, ``"wk2"``, ``"ps"``, ``"pse"``,
        ``"lag"``, ``"sgd"``, or an object such as ``WK2(c=0.25)``; c is in
        units of 1/η².
    codec : str, Codec, or sequence of these (default: "dense")
        How uploads are encoded; of several, worker m uses entry m mod n, see
        `lasg_flwr.codecs.assignment`.
    memory : {"innovation", "gradient", "error-feedback"} (default: "innovation")
        Whether an upload carries g − h_m, g, or e_m + g (rule ``"sgd"`` only).
    server_memory : {"per-worker", "sum-only"} (default: "per-worker")
        Whether the server holds each h_m, or only their weighted sum: O(p).
    step : float, str or ServerStep (default: 0.1)
        The server's step; a number is plain SGD's learning rate, a string such as
        ``"adam:rate=0.01"`` one of `lasg_flwr.optim`. 1.0 where clients send updates:
        with `lasg_mod` and `lasg_flwr.oracles.LocalSteps`.
    weights : {"equal", "examples"} (default: "equal")
        w_m; fixed at a worker's first acceptance, except under error feedback, where
        each upload weighs what its worker's examples are then.
    full_codec : str, Codec, or sequence of these, optional
        Codec of full uploads after a worker's first; left out, "dense" under
        sum-only memory and the run's codec otherwise.
    lost_share : float (default: 0.25)
        Sum-only memory: a new start is made once more than this share of the
        workers lost their state.
    seed : int (default: 0)
        Seed of batches and rounding.
    downlink : str or Codec (default: "dense")
        How the model travels: ``"dense"`` sends it whole with every request; a
        contractive codec, such as ``"topk:fraction=0.1"``, sends each round's step
        coded, and workers keep the model: see `lasg_flwr.protocol.broadcast`.
    norm_bound : float, optional
        An upload longer than this times the median of the others' last uploads of its
        kind is refused; see `lasg_flwr.protocol.norm_filter.NormFilter`.

    Raises
    ------
    ValueError
        If an argument is out of its range, or two do not go together.

    Warns
    -----
    UserWarning
        If c > 4 where the step is 1.

    Examples
    --------
    >>> LasgConfig("wk2:c=2", step=0.5).threshold_constant
    8.0
    >>> LasgConfig("wk2:c=2", step="adam:rate=0.01").threshold_constant
    2.0
    """

    rule: str | Rule[Any] = "vr"
    codec: CodecChoice = "dense"
    memory: MemoryName = "innovation"
    server_memory: ServerMemoryName = "per-worker"
    step: float | str | ServerStep[Any] = 0.1
    weights: Weighting = "equal"
    full_codec: CodecChoice | None = None
    lost_share: float = 0.25
    seed: int = 0
    norm_bound: float | None = None
    downlink: str | Codec = DENSE

    def __post_init__(self) -> None:
        if self.weights not in ("equal", "examples"):
            raise ValueError(
                f"weights must be 'equal' or 'examples', got {self.weights!r}"
            )
        self._set("lost_share", real("lost_share", self.lost_share, least=0, most=1))
        if self.norm_bound is not None:
            self._set("norm_bound", real("norm_bound", self.norm_bound, above=0))
        self._set("seed", self.settings.seed)
        self.rule_object.check()
        _ = self.step_object, self.threshold_constant, self.later_full_codec
        self._warn_of_large_c()

    def _warn_of_large_c(self) -> None:
        rule = self.rule_object
        risky = rule.decided_by != "nobody" and rule.c > LARGE_C
        if risky and self.step_object.is_one:
            warn(
                f"{spec_of(rule)}: c is in units of 1/η²; c = {rule.c:g} lets stale "
                f"updates be off by {sqrt(rule.c):.1f} times the mean update's length, "
                "and training most likely diverges where clients take local steps: use "
                f"c <= {LARGE_C:g} (the papers have 1)",
                stacklevel=2,
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @cached_property
    def rule_object(self) -> Rule[Any]:
        """The rule, with what only the server knows of it."""
        return rule_from(self.rule)

    @cached_property
    def step_object(self) -> ServerStep[Any]:
        """The server's step."""
        return step_from(self.step)

    @cached_property
    def settings(self) -> Settings:
        """What travels to the workers."""
        return Settings(
            worker_spec(self.rule_object),
            assignment_spec(self.codec),
            self.memory,
            self.server_memory,
            self.seed,
            spec_of(codec_from(self.downlink)),
        )

    @cached_property
    def threshold_constant(self) -> float:
        """C of the threshold over the step's own squares: the rule's, under SGD /η²."""
        rule = self.rule_object
        if rule.decided_by == "nobody":
            return 0.0
        if rule.compares_gradients:
            return rule.c
        return self.step_object.threshold_constant(rule.c)

    def squared_length(self, new: F32, old: F32, gradient: F64) -> float:
        """Return what the threshold averages of a step, see `ServerStep`."""
        if self.rule_object.compares_gradients:
            return squared_distance(gradient)
        return self.step_object.squared_length(new, old, gradient)

    @cached_property
    def later_full_codec(self) -> str:
        """Codec of a worker's full uploads after its first."""
        memory, codec = self.settings.memory_object, self.settings.codec
        if self.full_codec is None:
            return memory.later_full_codec(codec)
        spec = assignment_spec(self.full_codec)
        if not memory.sends_innovations and spec != codec:
            raise ValueError(
                f"full_codec {spec!r} would replace the codec {codec!r}: all uploads "
                "of this run are full; leave it out"
            )
        return spec

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that decides a run, JSON-ready, for checkpoints.

        The learning rate is an entry of its own: it may change if asked for.
        """
        step = self.step_object
        options = {f.name: repr(getattr(step, f.name)) for f in fields(step)}
        rate = options.pop("rate")
        settings = self.settings
        return {
            "rule": spec_of(self.rule_object),
            "codec": settings.codec,
            "full_codec": self.later_full_codec,
            "memory": settings.memory,
            "server_memory": settings.server_memory,
            "seed": settings.seed,
            "step": f"{step.name} {options}" if options else step.name,
            "learning_rate": rate,
            "weights": self.weights,
            "lost_share": self.lost_share,
            "norm_bound": self.norm_bound,
            "downlink": settings.downlink,
        }


def config_from(config: LasgConfig | None, options: dict[str, Any]) -> LasgConfig:
    """Return a config, or the one that options make.

    Parameters
    ----------
    config : LasgConfig, optional
        A ready one; then there may be no options.
    options : dict
        Arguments of `LasgConfig`.

    Raises
    ------
    TypeError
        For an unknown option, or if both are given.
    """
    if config is not None:
        if options:
            raise TypeError(
                f"config and {', '.join(options)} are both given: put them into the "
                "config, as with dataclasses.replace"
            )
        return config
    known = [f.name for f in fields(LasgConfig)]
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise TypeError(
                f"unknown option {name!r}: {hint}choose from {', '.join(known)}"
            )
    return LasgConfig(**options)
