"""REINFORCE over an LSTM policy. This module knows no torch; the network lives in `lstm`, imported when needed."""

import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any, ClassVar

from carbon_nas.errors import SearchError
from carbon_nas.interfaces import SearchSpace
from carbon_nas.model import Observation


@dataclass(frozen=True, slots=True)
class ReinforceOptions:
    """Settings of the policy and of its learning.

    Attributes:
        hidden_units: width of the embedding and of the LSTM.
        learning_rate: of Adam.
        entropy: weight of the entropy bonus, beside advantages of about one standard deviation.
        baseline_decay: how much of the moving baseline stays at each update.
        batch: how many observations make one update.
        exploration: share of proposals drawn from the space instead of the policy.
    """

    hidden_units: int = 64
    learning_rate: float = 0.01
    entropy: float = 0.01
    baseline_decay: float = 0.9
    batch: int = 5
    exploration: float = 0.05

    def __post_init__(self) -> None:
        if self.hidden_units < 1 or self.batch < 1:
            raise ValueError("hidden_units and batch must be at least 1")
        if not self.learning_rate > 0 or not self.entropy >= 0:
            raise ValueError("learning_rate must be above zero and entropy not below")
        if not 0 <= self.baseline_decay < 1 or not 0 <= self.exploration <= 1:
            raise ValueError("baseline_decay must be in [0, 1) and exploration in [0, 1]")


@dataclass(slots=True)
class Baseline:
    """A moving average of past rewards and of their squared distance from it."""

    decay: float
    mean: float | None = None
    variance: float | None = None

    def advantages(self, rewards: Sequence[float]) -> list[float]:
        """Give each reward's distance from the *earlier* average in standard deviations; then move on."""
        centre = fmean(rewards) if self.mean is None else self.mean
        distances = [reward - centre for reward in rewards]
        self.mean = self._moved(self.mean, fmean(rewards))
        self.variance = self._moved(self.variance, fmean(d * d for d in distances))
        scale = math.sqrt(self.variance) or 1.0
        return [d / scale for d in distances]

    def _moved(self, old: float | None, new: float) -> float:
        return new if old is None else self.decay * old + (1 - self.decay) * new


class Reinforce:
    """An autoregressive LSTM policy over the decisions of a space, trained by policy gradient.

    From Williams (Machine Learning 8, 1992): the estimator (reward - baseline) x grad log pi. From Zoph & Le
    (ICLR 2017): the LSTM that feeds each choice into the next decision, and the moving average of earlier
    rewards as baseline. Ours: one LSTM layer; advantages divided by a moving standard deviation, so that the
    learning rate does not depend on the reward's scale; the entropy bonus of ENAS; a share of uniform
    proposals, because a policy that has settled proposes only what is known already.

    Log-probabilities are computed anew under the present policy when a batch is complete. So a training that
    was proposed long ago, or by somebody else, teaches too; no importance weight corrects for the difference,
    nor for the ranking that chose which proposals to train.

    The k-th proposal depends on `seed`, k and the policy at that time alone.
    """

    Options: ClassVar[type] = ReinforceOptions
    isolated: ClassVar[bool] = True

    def __init__(self, options: ReinforceOptions, *, space: SearchSpace, seed: int) -> None:
        from carbon_nas.search.controllers.lstm import LstmPolicy  # noqa: PLC0415 -- only a child has torch

        self._options = options
        self._space = space
        self._seed = seed
        self._proposed = 0
        self._pending: list[tuple[tuple[int, ...], float]] = []
        self._baseline = Baseline(options.baseline_decay)
        self._policy = LstmPolicy(
            space.choices,
            hidden_units=options.hidden_units,
            learning_rate=options.learning_rate,
            entropy=options.entropy,
            seed=seed,
        )

    def propose(self, n: int) -> list[str]:
        """Draw `n` architectures from the policy; some may be equal."""
        first, self._proposed = self._proposed, self._proposed + n
        generators = [Random(f"{self._seed}:{k}") for k in range(first, self._proposed)]
        explored = [rng.random() < self._options.exploration for rng in generators]
        uniforms = [
            [rng.random() for _ in self._space.choices]
            for rng, free in zip(generators, explored, strict=True)
            if not free
        ]
        drawn = iter(self._policy.sample(uniforms))
        return [
            self._space.sample(rng) if free else self._space.decode(next(drawn))
            for rng, free in zip(generators, explored, strict=True)
        ]

    def observe(self, observations: Sequence[Observation]) -> None:
        """Update the policy once per `batch` observations; the rest wait for the next call.

        Raises:
            ValueError: an architecture is not of the space, or a reward is not finite; nothing is observed then.
        """
        for seen in observations:
            if not math.isfinite(seen.reward):
                raise ValueError(f"the reward of {seen.arch} is {seen.reward}")
        self._pending += [(self._space.encode(seen.arch), seen.reward) for seen in observations]
        size = self._options.batch
        while len(self._pending) >= size:
            batch, self._pending = self._pending[:size], self._pending[size:]
            advantages = self._baseline.advantages([reward for _, reward in batch])
            self._policy.update([choices for choices, _ in batch], advantages)

    def state_dict(self) -> dict[str, Any]:
        """Give everything that learning has changed; the policy is base64 of a `torch.save`d archive."""
        return {
            "choices": list(self._space.choices),
            "hidden_units": self._options.hidden_units,
            "seed": self._seed,
            "proposed": self._proposed,
            "pending": [[list(choices), reward] for choices, reward in self._pending],
            "mean": self._baseline.mean,
            "variance": self._baseline.variance,
            "policy": b64encode(self._policy.dump()).decode("ascii"),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            SearchError: the state is of another space or of a network of another size.
        """
        mine = {"choices": list(self._space.choices), "hidden_units": self._options.hidden_units}
        for key, value in mine.items():
            if state[key] != value:
                raise SearchError(
                    f"the saved policy has {key} = {state[key]}, this study {value}: "
                    "restore the setting or begin a new study in another state directory"
                )
        self._policy.load(b64decode(state["policy"]))
        self._seed, self._proposed = state["seed"], state["proposed"]
        self._pending = [(tuple(choices), reward) for choices, reward in state["pending"]]
        self._baseline = Baseline(self._options.baseline_decay, state["mean"], state["variance"])
