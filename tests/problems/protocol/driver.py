"""Random histories from a seed: the hypothesis machine of `test_stateful` by itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.problems.protocol.history import History
from tests.problems.protocol.setups import random_setup


@dataclass(frozen=True)
class Odds:
    """Probabilities of the faults of one history."""

    lost: float
    late: float
    restart: float
    server: float


_CALM = Odds(0.02, 0.05, 0.02, 0.02)
_ROUGH = Odds(0.15, 0.3, 0.1, 0.06)
_WILD = Odds(0.3, 0.6, 0.3, 0.12)
_CRASHING = Odds(0.03, 0.6, 0.15, 0.3)


class Driver:
    """Draws a history's events from a generator."""

    def __init__(self, seed: int, odds: Odds | None = None, **choices: Any) -> None:
        self.rng = np.random.default_rng([seed, 0])
        setup = random_setup(self.rng, **choices)
        drawn = (_CALM, _ROUGH, _WILD, _CRASHING)[self.rng.integers(4)]
        self.odds = odds or drawn
        self.history = History(setup, seed, int(self.rng.integers(1, 4)))
        self.coded = setup.downlink != "dense"

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def play(self, rounds: int) -> History:
        """Run faulty rounds, then let everybody recover."""
        for _ in range(rounds):
            self._between()
            self._round()
            if self.coded:
                self._evaluation()
        self.history.recover()
        return self.history

    def _between(self) -> None:
        history = self.history
        for key in list(history.workers):
            self._restart(key)
        if self.chance(self.odds.restart / 2):
            history.join()
        if self.chance(self.odds.restart / 3):
            history.leave(int(self.rng.choice(list(history.workers))))
        if self.chance(0.3):
            history.checkpoint()
        if self.chance(self.odds.server):
            back = 1 + int(self.rng.integers(4))
            history.restore(max(0, len(history.checkpoints) - back))

    def _restart(self, key: int) -> None:
        if self.chance(self.odds.restart):
            new_node = self.chance(0.4)
            if self.coded and self.chance(0.3):
                self.history.lose_part(key, self.chance(0.5))
            elif self.chance(0.5):
                self.history.wipe(key, new_node)
            else:
                self.history.rewind(key, new_node)

    def _round(self) -> None:
        history = self.history
        reach = [k for k in history.workers if not self.chance(self.odds.lost)]
        history.open(reach)
        count = len(history.asked)
        first = len(history.requests) - count
        for offset in self.rng.permutation(count):
            if not self.chance(self.odds.lost):
                self._exchange(first + int(offset))
            self._stray()
        history.close()

    def _evaluation(self) -> None:
        """Some are asked to evaluate the model; earlier requests may come as well."""
        history = self.history
        if self.chance(0.5):
            history.ask_for_evaluation(
                [k for k in history.workers if not self.chance(0.3)]
            )
        for back in range(1, min(5, len(history.evaluations)) + 1):
            if not self.chance(self.odds.lost):
                history.evaluate(-back, self.chance(self.odds.lost))

    def _exchange(self, index: int) -> None:
        answer = self.history.deliver_request(index)
        if answer is None or self.chance(self.odds.lost):
            return
        letter = self.history.letters[answer]
        if self.chance(self.odds.restart):
            self.history.rewind(letter.reply.key)
            if self.chance(0.5):
                self.history.deliver_request(index)
        self.history.deliver_reply(answer)

    def _stray(self) -> None:
        """Something old, late or repeated arrives."""
        history = self.history
        if self.chance(self.odds.late):
            back = int(self.rng.integers(1, 25))
            answer = history.deliver_request(max(0, len(history.requests) - back))
            if answer is not None and self.chance(0.7):
                history.deliver_reply(answer)
        if history.letters and self.chance(self.odds.late):
            back = int(self.rng.integers(1, 15))
            history.deliver_reply(max(0, len(history.letters) - back))


def play(seed: int, rounds: int = 25, **choices: Any) -> History:
    """Run the random history of a seed; AssertionError if the protocol broke.

    `choices` are the keywords of `random_setup`.
    """
    return Driver(seed, **choices).play(rounds)
