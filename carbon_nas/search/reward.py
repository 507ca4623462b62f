"""What a trained architecture was worth: the reward that controllers learn from.

    reward = quality^a x (cost / reference_cost)^-w_i x (grams / reference_grams)^-w_e

The soft form of MnasNet's objective (Tan et al., CVPR 2019, eq. 2 with alpha = beta = -0.07), which multiplies
accuracy by a power of latency over its target; here the cost of an inference that the user chose (`search.cost`)
stands in its place, and a second factor of the same form weighs the emissions of the training itself. The exponent
0.07 lets 5 % more accuracy pay for twice the cost.

Grams are the training's energy times the zone's *reference* intensity (its mean over seven days), not the
grams of the hours it happened to run in: those differ threefold with the weather, which the architecture did
not choose, and a policy that saw them would learn the weather. The ledger keeps the actual grams.
"""

import math
from dataclasses import dataclass

from carbon_nas.model import Evaluation, Observation, emissions_grams

FLOOR = 1e-3
"""Costs below this share of their reference count as this share: a meter too coarse for a short training, or a
network without a convolution, must not have an infinite reward."""


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """Weights and references of the reward. A reference sets the reward's scale and never the order.

    Attributes:
        reference_cost: of one inference, in the base unit of the study's cost, above zero.
        reference_grams: gCO2e of one training, above zero.
        quality_exponent: above zero.
        inference_weight: w_i, not below zero; zero leaves inference cost out.
        emissions_weight: w_e, not below zero; zero leaves emissions out.
    """

    reference_cost: float
    reference_grams: float
    quality_exponent: float = 1.0
    inference_weight: float = 0.07
    emissions_weight: float = 0.07

    def __post_init__(self) -> None:
        for name in ("reference_cost", "reference_grams", "quality_exponent"):
            _require(getattr(self, name), name, above_zero=True)
        for name in ("inference_weight", "emissions_weight"):
            _require(getattr(self, name), name)


def reward(settings: RewardSettings, *, quality: float, cost: float, grams: float) -> float:
    """Give the reward: finite, not below zero, rising with quality and falling with either cost.

    Raises:
        ValueError: an argument is not finite or below zero.
    """
    _require(quality, "quality")
    inference = _relative(cost, settings.reference_cost, "cost")
    emissions = _relative(grams, settings.reference_grams, "grams")
    return float(
        quality**settings.quality_exponent
        * inference**-settings.inference_weight
        * emissions**-settings.emissions_weight
    )


def observation(
    training: Evaluation,
    *,
    inference_cost: float,
    energy_joules: float,
    reference_grams_per_kwh: float,
    settings: RewardSettings,
) -> Observation:
    """Say what a controller may learn of a training, given its one cost and the joules of all its attempts.

    Raises:
        ValueError: the evaluation lacks `accuracy`, or a number is not finite or below zero.
    """
    if "accuracy" not in training.values:
        raise ValueError(f"the training of {training.arch} lacks accuracy")
    _require(energy_joules, "energy_joules")
    _require(reference_grams_per_kwh, "reference_grams_per_kwh", above_zero=True)
    quality = training.values["accuracy"]
    grams = emissions_grams(energy_joules, reference_grams_per_kwh)
    return Observation(
        arch=training.arch,
        quality=quality,
        inference_cost=inference_cost,
        energy_joules=energy_joules,
        emissions_grams=grams,
        reward=reward(settings, quality=quality, cost=inference_cost, grams=grams),
    )


def _relative(cost: float, reference: float, name: str) -> float:
    _require(cost, name)
    return max(cost / reference, FLOOR)


def _require(value: float, name: str, *, above_zero: bool = False) -> None:
    if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
        raise ValueError(
            f"{name} must be finite and {'above' if above_zero else 'not below'} zero, got {value}"
        )
