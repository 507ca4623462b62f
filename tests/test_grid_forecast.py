"""Forecasters: what must hold whatever the numbers are."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_nas.errors import NoData
from carbon_nas.grid.forecast.base import DAY, HORIZON_HOURS, Series, epoch_hour, from_epoch_hour
from carbon_nas.grid.forecast.blend import Blend
from carbon_nas.grid.forecast.conformal import Conformal, Forecasts
from carbon_nas.grid.forecast.logridge import LogRidge
from carbon_nas.grid.forecast.naive import MEAN7, PERSISTENCE, WEEKLY
from carbon_nas.grid.forecast.readings import readings_from, series_from
from carbon_nas.grid.forecast.ridge import Ridge, fit_ridge
from carbon_nas.grid.forecast.selector import Selector, names_chosen
from carbon_nas.model import Basis, Quality, Reading, Signal

START = datetime(2023, 3, 1, tzinfo=UTC)  # the change to summer time lies inside
DAYS = 150
METHODS = (PERSISTENCE, WEEKLY, MEAN7, Ridge(), Blend())


def weather(days: int = DAYS, seed: int = 0, start: datetime = START) -> Series:
    """A day's shape on a level that wanders."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * DAY)
    level = np.exp(0.02 * np.cumsum(rng.standard_normal(len(hours))))
    shape = 1 + 0.3 * np.sin(2 * np.pi * hours / DAY) + 0.05 * rng.standard_normal(len(hours))
    return Series(start, 200 * level * shape)


def with_value(series: Series, index: int, value: float) -> Series:
    """The same series but for one value."""
    values = series.values.copy()
    values[index] = value
    return Series(series.start, values)


def fitted(method, series: Series) -> Conformal:
    forecaster = Conformal(method)
    forecaster.fit(series)
    return forecaster


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
class TestEveryMethod:
    def test_the_future_changes_nothing(self, method) -> None:
        series = weather()
        issue = series.first + 130 * DAY
        issues = np.arange(issue - 10 * DAY, issue + 10 * DAY, DAY)
        forecaster = fitted(method, series.before(issue - 10 * DAY))
        honest = forecaster.forecasts(series, issues)
        for index in range(130 * DAY, DAYS * DAY, 97):
            other = forecaster.forecasts(with_value(series, index, 5.0), issues)
            blind = issues <= series.first + index
            for name in ("points", "low", "high", "recent_errors"):
                np.testing.assert_array_equal(getattr(honest, name)[blind], getattr(other, name)[blind])

    def test_many_issues_at_once_say_what_one_says(self, method) -> None:
        series = weather()
        forecaster = fitted(method, series.before(series.first + 120 * DAY))
        issues = series.first + np.arange(120, 140) * DAY
        together = forecaster.forecasts(series, issues)
        for row in (0, 7, 19):
            alone = forecaster.predict(series.before(int(issues[row])))
            for name, mine in (("points", alone.mean), ("low", alone.low), ("high", alone.high)):
                np.testing.assert_allclose(mine, getattr(together, name)[row], rtol=1e-9)

    def test_a_constant_grid_stays_constant(self, method) -> None:
        series = Series(START, np.full(DAYS * DAY, 123.0))
        prediction = fitted(method, series).predict(series)
        for values in (prediction.mean, prediction.low, prediction.high):
            np.testing.assert_allclose(values, 123.0, rtol=1e-6)

    @settings(max_examples=5, deadline=None)
    @given(factor=st.floats(0.01, 100), seed=st.integers(0, 99))
    def test_the_unit_does_not_matter(self, method, factor: float, seed: int) -> None:
        series = weather(seed=seed)
        scaled = Series(START, series.values * factor)
        one, other = fitted(method, series).predict(series), fitted(method, scaled).predict(scaled)
        for name in ("mean", "low", "high"):
            np.testing.assert_allclose(getattr(one, name) * factor, getattr(other, name), rtol=1e-6)

    @settings(max_examples=5, deadline=None)
    @given(data=st.data())
    def test_gaps_are_never_clean(self, method, data: st.DataObject) -> None:
        series = weather()
        values = series.values.copy()
        for _ in range(data.draw(st.integers(1, 4))):
            begin = data.draw(st.integers(8 * DAY, len(values) - 1))
            values[begin : begin + data.draw(st.integers(1, 72))] = np.nan
        gappy = Series(START, values)
        prediction = fitted(method, gappy).predict(gappy)
        assert prediction.low.min() > 0.2 * np.nanmin(values[-40 * DAY :])

    @pytest.mark.parametrize("hour", [0, 5, 17])
    def test_bands_are_in_order_at_any_hour(self, method, hour: int) -> None:
        series = weather()
        prediction = fitted(method, series).predict(series.before(series.last - DAY + hour), hours=48)
        assert prediction.start == from_epoch_hour(series.last - DAY + hour)
        assert prediction.mean.shape == (48,)
        assert (prediction.low > 0).all()
        assert (prediction.low <= prediction.mean).all()
        assert (prediction.mean <= prediction.high).all()
        assert (prediction.high - prediction.low).mean() > 0

    def test_it_says_so_when_it_knows_too_little(self, method) -> None:
        whole = weather()
        forecaster = fitted(method, whole)
        with pytest.raises(NoData):
            forecaster.predict(whole.before(whole.first + 20))
        with pytest.raises(NoData, match="fitted"):
            Conformal(method).predict(whole)


def test_two_of_a_kind_say_the_same() -> None:
    series = weather(seed=3)
    one, other = Selector(), Selector()
    one.fit(series)
    other.fit(series)
    np.testing.assert_array_equal(one.predict(series).mean, other.predict(series).mean)


def test_the_first_band_holds_four_fifths_of_what_comes() -> None:
    series = weather(days=400, seed=1)
    forecaster = fitted(PERSISTENCE, series.before(series.first + 200 * DAY))
    issues = series.first + np.arange(200, 396) * DAY
    said = forecaster.forecasts(series, issues)
    actual = np.array([series.values[i : i + HORIZON_HOURS] for i in issues - series.first])
    assert 0.78 <= ((said.low <= actual) & (actual <= said.high)).mean() <= 0.82


def test_a_band_holds_as_well_when_fitted_anew_for_every_forecast() -> None:
    series = weather(days=250, seed=1)
    inside = []
    for issue in range(series.first + 130 * DAY, series.last - HORIZON_HOURS + 1, DAY):
        known = series.before(issue)
        said = fitted(PERSISTENCE, known).predict(known)
        actual = series.values[issue - series.first :][:HORIZON_HOURS]
        inside.append((said.low <= actual) & (actual <= said.high))
    assert 0.78 <= np.mean(inside) <= 0.82


def test_the_first_band_is_made_of_weibull_quantiles() -> None:
    series = weather(days=42, seed=2)  # a third is held out: 14 days, just enough for a band of the first day
    said = fitted(PERSISTENCE, series).predict(series)
    days = np.log(series.values.reshape(-1, DAY))
    low, high = np.quantile(days[-14:] - days[-15:-1], [0.1, 0.9], axis=0, method="weibull")
    np.testing.assert_allclose(said.low[:DAY], np.exp(days[-1] + np.minimum(low, 0)))
    np.testing.assert_allclose(said.high[:DAY], np.exp(days[-1] + np.maximum(high, 0)))
    assert np.isnan(said.low[DAY:]).all()


def test_ridge_is_the_textbook_one() -> None:
    rng = np.random.default_rng(0)
    inputs, outputs = rng.standard_normal((50, 3)), rng.standard_normal((50, 2))
    weights = rng.uniform(0.5, 2, 50)
    linear = fit_ridge(inputs, outputs, 2.0, weights)
    weights = weights / weights.mean()

    def loss(matrix: np.ndarray, offset: np.ndarray) -> float:
        errors = outputs - (inputs - linear.centre) @ matrix - offset
        return float((weights[:, None] * errors**2).sum() + 2.0 * (matrix**2).sum())

    least = loss(linear.weights, linear.offset)
    for _ in range(50):
        step = 1e-3 * rng.standard_normal((4, 2))
        assert loss(linear.weights + step[:3], linear.offset + step[3]) > least


@pytest.mark.parametrize(("days", "share"), [(365, 1 / 2), (366, 1 / 3)])
def test_a_blend_lies_between_its_two_on_logarithms(days: int, share: float) -> None:
    series = weather(days)
    issues = np.array([series.last - DAY, series.last])
    one, other, both = (
        np.log(method.train(series, 0)(series, issues)) for method in (LogRidge(), Ridge(), Blend())
    )
    np.testing.assert_allclose(both, one + share * (other - one), rtol=1e-9)


def test_a_series_refuses_zero_and_half_hours() -> None:
    with pytest.raises(ValueError, match="above zero"):
        Series(START, np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="full hour"):
        Series(START + timedelta(minutes=30), np.array([1.0]))


def daily(*errors: float) -> Forecasts:
    """Forecasts of one issue with these recent errors."""
    nothing = np.zeros((1, HORIZON_HOURS))
    row = np.full((1, 60), np.nan)
    row[0, : len(errors)] = errors
    return Forecasts(nothing, nothing, nothing, row)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ((5, 6, 7, 6, 5), (4, 5, 6, 5, 4), "second"),  # better every day
        ((5, 6, 7, 6, 5), (1, 9, 4, 9, 3), "first"),  # better on average, but who can tell
        ((5, 6), (6, 7), "first"),
        ((), (6, 7), "second"),  # nothing is known of the first
        ((), (), "first"),
    ],
)
def test_the_first_is_believed_until_another_is_clearly_better(first, second, chosen: str) -> None:
    assert names_chosen({"first": daily(*first), "second": daily(*second)}) == [chosen]


def test_the_choice_gives_its_reason() -> None:
    series = weather()
    selector = Selector()
    selector.fit(series)
    choice, prediction = selector.choose(series, hours=24)
    assert prediction.mean.shape == (24,)
    assert choice.name in choice.recent_mape
    assert choice.name in choice.reason
    assert "%" in choice.reason


def test_a_week_of_history_is_enough_to_say_something() -> None:
    series = weather(days=9)
    selector = Selector()
    selector.fit(series)
    choice, prediction = selector.choose(series)
    assert choice.name in {"mean7", "weekly", "persistence"}
    assert (prediction.mean > 0).all()
    with pytest.raises(NoData):
        selector.fit(series.before(series.first + 10))


def reading(start: datetime, minutes: int, grams: float, quality: Quality = Quality.ACTUAL) -> Reading:
    return Reading(
        zone="GB",
        start=start,
        end=start + timedelta(minutes=minutes),
        grams_per_kwh=grams,
        quality=quality,
        signal=Signal.AVERAGE,
        basis=Basis.DIRECT,
        provider="test",
        fetched_at=start + timedelta(days=1),
    )


class TestReadings:
    def test_half_hours_become_their_mean_and_unseen_values_nothing(self) -> None:
        at = [START + timedelta(minutes=30 * step) for step in range(6)]
        readings = [reading(at[0], 30, 100), reading(at[1], 30, 200), reading(at[2], 30, 50, Quality.STALE)]
        readings += [
            reading(at[3], 30, 80),
            reading(at[4], 15, 999),
            reading(at[4] + timedelta(minutes=15), 10, 1),
        ]
        series = series_from(readings)
        assert series.start == START
        np.testing.assert_allclose(series.values, [150, 80])  # the third hour is known to less than half

    def test_one_long_reading_fills_its_hours(self) -> None:
        np.testing.assert_allclose(series_from([reading(START, 180, 70)]).values, [70, 70, 70])

    def test_short_gaps_are_bridged_and_long_ones_stay(self) -> None:
        hours = [0, 4, 9]
        series = series_from([reading(START + timedelta(hours=hour), 60, 100 + hour) for hour in hours])
        np.testing.assert_allclose(series.values, [100, 101, 102, 103, 104, *[np.nan] * 4, 109])

    def test_nothing_seen_is_said(self) -> None:
        with pytest.raises(NoData):
            series_from([reading(START, 60, 100, Quality.FORECAST)])

    def test_a_prediction_becomes_readings_with_bands(self) -> None:
        series = weather()
        like, now = reading(START, 60, 100), from_epoch_hour(series.last)
        points = readings_from(fitted(MEAN7, series).predict(series, 3), "mean7", like, now)
        assert [point.start for point in points] == [now + timedelta(hours=lead) for lead in range(3)]
        for point in points:
            assert point.quality is Quality.FORECAST
            assert point.provider == "forecast:mean7"
            assert (point.zone, point.signal, point.basis) == (like.zone, like.signal, like.basis)
            assert point.band is not None
            assert point.band[0] <= point.grams_per_kwh <= point.band[1]

    def test_no_band_is_none(self) -> None:
        series = weather(days=9)
        points = readings_from(
            fitted(PERSISTENCE, series).predict(series, 1), "persistence", reading(START, 60, 1), START
        )
        assert points[0].band is None


def test_hours_count_from_1970() -> None:
    assert epoch_hour(START) % DAY == 0
    assert from_epoch_hour(epoch_hour(START)) == START
