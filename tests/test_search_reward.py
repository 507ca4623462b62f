import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.model import Evaluation, JobKind
from carbon_nas.search.reward import FLOOR, RewardSettings, observation, reward

SETTINGS = RewardSettings(reference_cost=1e8, reference_grams=50.0)
qualities = st.floats(0.0, 1.0)
costs = st.floats(1e5, 1e12)  # from the floor of SETTINGS upwards
grams = st.floats(0.05, 1e6)


def test_by_hand() -> None:
    # twice the cost at weight 0.07 costs 4.7 %: 2 ** -0.07 = 0.952638
    assert reward(SETTINGS, quality=0.9, cost=2e8, grams=50.0) == pytest.approx(0.9 * 0.952638, rel=1e-6)
    assert reward(SETTINGS, quality=0.9, cost=1e8, grams=25.0) == pytest.approx(0.9 / 0.952638, rel=1e-6)
    squared = RewardSettings(1e8, 50.0, quality_exponent=2.0)
    assert reward(squared, quality=0.9, cost=1e8, grams=50.0) == pytest.approx(0.81)


@given(qualities, costs, grams, st.floats(1.0, 100.0))
def test_monotone_in_each_argument(quality: float, macs: float, emitted: float, factor: float) -> None:
    here = reward(SETTINGS, quality=quality, cost=macs, grams=emitted)
    assert reward(SETTINGS, quality=quality / factor, cost=macs, grams=emitted) <= here
    assert reward(SETTINGS, quality=quality, cost=macs * factor, grams=emitted) <= here
    assert reward(SETTINGS, quality=quality, cost=macs, grams=emitted * factor) <= here
    if quality > 0.01 and factor > 1.01:
        assert reward(SETTINGS, quality=quality, cost=macs * factor, grams=emitted) < here


@given(qualities, costs, grams)
def test_a_weight_of_zero_switches_its_factor_off(quality: float, macs: float, emitted: float) -> None:
    neither = RewardSettings(1e8, 50.0, inference_weight=0.0, emissions_weight=0.0)
    assert reward(neither, quality=quality, cost=macs, grams=emitted) == quality


@given(qualities, costs, grams, qualities, costs, grams)
def test_references_only_scale(q1: float, f1: float, g1: float, q2: float, f2: float, g2: float) -> None:
    other = RewardSettings(reference_cost=2e7, reference_grams=3.0)
    factor = (1e8 / 2e7) ** -0.07 * (50.0 / 3.0) ** -0.07
    for quality, macs, emitted in ((q1, f1, g1), (q2, f2, g2)):
        scaled = factor * reward(SETTINGS, quality=quality, cost=macs, grams=emitted)
        assert reward(other, quality=quality, cost=macs, grams=emitted) == pytest.approx(scaled)


def test_a_cost_of_zero_counts_as_the_floor() -> None:
    free = reward(SETTINGS, quality=0.5, cost=0.0, grams=0.0)
    assert free == reward(SETTINGS, quality=0.5, cost=FLOOR * 1e8, grams=FLOOR * 50.0)
    assert math.isfinite(free)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1])
@pytest.mark.parametrize("name", ["quality", "cost", "grams"])
def test_refuses_what_is_no_cost_or_quality(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        reward(SETTINGS, **{"quality": 0.5, "cost": 1e8, "grams": 50.0, name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"reference_cost": 0.0},
        {"reference_grams": -1.0},
        {"quality_exponent": 0.0},
        {"inference_weight": -0.01},
        {"emissions_weight": float("nan")},
    ],
)
def test_refuses_wrong_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RewardSettings(**{"reference_cost": 1e8, "reference_grams": 50.0, **wrong})


def evaluation(**values: float) -> Evaluation:
    return Evaluation("a", JobKind.TRAIN, values, duration_seconds=60.0, cpu_seconds=60.0)


def test_an_observation_uses_the_reference_intensity() -> None:
    seen = observation(
        evaluation(accuracy=0.8, loss=0.6, flops=7e9),
        inference_cost=1e8,
        energy_joules=1_800_000.0,
        reference_grams_per_kwh=200.0,
        settings=SETTINGS,
    )
    assert seen.emissions_grams == pytest.approx(100.0)  # half a kWh
    assert (seen.arch, seen.quality, seen.inference_cost, seen.energy_joules) == ("a", 0.8, 1e8, 1_800_000.0)
    assert seen.reward == reward(SETTINGS, quality=0.8, cost=1e8, grams=100.0)


def test_missing_is_not_zero() -> None:
    with pytest.raises(ValueError, match="lacks accuracy"):
        observation(
            evaluation(flops=1e8),
            inference_cost=1e8,
            energy_joules=1.0,
            reference_grams_per_kwh=200.0,
            settings=SETTINGS,
        )


@pytest.mark.parametrize(
    ("joules", "intensity"), [(-1.0, 200.0), (float("nan"), 200.0), (1.0, 0.0), (1.0, -5.0)]
)
def test_refuses_absurd_energy_or_intensity(joules: float, intensity: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        observation(
            evaluation(accuracy=0.8),
            inference_cost=1e8,
            energy_joules=joules,
            reference_grams_per_kwh=intensity,
            settings=SETTINGS,
        )
