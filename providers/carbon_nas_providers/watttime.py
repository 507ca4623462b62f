"""Marginal emissions in five-minute steps from WattTime v3 (an account is needed; free in full for CAISO_NORTH).

`GET /login` with HTTP Basic gives a token for 30 minutes; it is renewed before, and once after a refusal. Values are
in lbs CO2 per MWh, as `meta.units` says; any other unit is refused. A marginal rate answers "what if I ran an hour
later?". It is the output of a model, so never `actual`, and it is no base for an inventory.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar

from pydantic import SecretStr

from carbon_nas.errors import AccessDenied, BadData, ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, require_echo, rows_of
from carbon_nas.grid.http import Keys
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions, reveal
from carbon_nas.model import Basis, Capabilities, Quality, Reading, Signal, utc

NAME = "watttime"
STEP = timedelta(minutes=5)
TOKEN_LIFE = timedelta(minutes=25)  # of the 30 it has
LOOK_BACK = timedelta(hours=2)
LONGEST_FORECAST_HOURS = 72
GRAMS_PER_POUND = 453.59237
GRAMS_PER_KWH = {"lbs_co2_per_mwh": GRAMS_PER_POUND / 1000}
"""What one of each known unit is, in g/kWh."""
ZONE = re.compile(r"[A-Z][A-Z0-9_]+")


class SignalType(StrEnum):
    """What WattTime offers of CO2."""

    MARGINAL = "co2_moer"
    AVERAGE = "co2_aoer"


SIGNALS = {SignalType.MARGINAL: Signal.MARGINAL, SignalType.AVERAGE: Signal.AVERAGE}


@dataclass(frozen=True, kw_only=True)
class WattTimeOptions(ServiceOptions):
    """The account, and the signal."""

    base_url: str = "https://api.watttime.org"
    username: SecretStr | None = None
    password: SecretStr | None = None
    signal_type: SignalType = SignalType.MARGINAL


class WattTimeProvider(HttpProvider):
    """CO2 at the power plants, per region as WattTime names it (`CAISO_NORTH`)."""

    NAME = NAME
    own_zone_names = True
    Options: ClassVar[type] = WattTimeOptions
    LONGEST_RANGE = timedelta(days=31)  # the service's limit is 32 days

    _token: tuple[str, datetime] | None = None  # and when it must be renewed

    @property
    def capabilities(self) -> Capabilities:
        """Five minutes; marginal unless the average signal is chosen."""
        return Capabilities(
            signal=SIGNALS[self.options.signal_type],
            basis=Basis.DIRECT,
            step=STEP,
            history=True,
            forecast=True,
            licence="WattTime's terms; the data are proprietary",
            attribution="WattTime",
            lag=STEP,
        )

    def check_zone(self, zone: str) -> None:
        """Accept what has the form of a region."""
        if not ZONE.fullmatch(zone):
            raise ConfigurationError(f"{NAME!r} has regions as 'CAISO_NORTH', not {zone!r}", key="zone")

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last hours."""
        return self.past(zone, now - LOOK_BACK, now)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range."""
        times = {"start": text(floor_to(start, STEP)), "end": text(ceil_to(end, STEP))}
        return self._question(zone, "historical", times, Quality.ESTIMATED)

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for up to 72 h."""
        hours = min(max(-((now - until) // timedelta(hours=1)), 1), LONGEST_FORECAST_HOURS)
        return self._question(zone, "forecast", {"horizon_hours": str(hours)}, Quality.FORECAST)

    async def keys(self) -> Keys:
        """Give the token, renewed where it is old."""
        now = self.clock.now()
        if self._token is None or now >= self._token[1]:
            account = (reveal(self.options.username), reveal(self.options.password))
            nothing = timedelta(0)  # a token is never kept on disk
            token, _ = await self.service.ask(
                "/login", {}, parse_login, keys=Keys(basic=account), max_age=nothing
            )
            self._token = (token, now + TOKEN_LIFE)
        return Keys(headers={"authorization": f"Bearer {self._token[0]}"})

    async def ask(self, zone: str, question: Question, max_age: timedelta | None = None) -> list[Reading]:
        """As every provider; a refusal may mean that the token has run out, so once with a new one."""
        known = self._token
        try:
            return await super().ask(zone, question, max_age)
        except AccessDenied:
            if known is None or self._token != known:  # the token was new: the account itself is refused
                raise
            self._token = None
            return await super().ask(zone, question, max_age)

    def _question(self, zone: str, what: str, more: dict[str, str], quality: Quality) -> Question:
        signal = str(self.options.signal_type)
        params = {"region": zone, "signal_type": signal, **more}
        return Question(
            f"/v3/{what}", params, parse=partial(parse, zone=zone, signal=signal, quality=quality)
        )


def parse_login(body: bytes) -> str:
    """Read the token.

    Raises:
        AccessDenied: there is none.
    """
    token = decode_object(body, NAME).get("token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise AccessDenied(f"{NAME}: the login gave no token")
    return token


def parse(body: bytes, *, zone: str, signal: str, quality: Quality) -> Points:
    """Read an answer, and convert it to g/kWh.

    Raises:
        ProviderError: another region, signal, unit or step, or not of the expected form.
    """
    content = decode_object(body, NAME)
    grams_per_kwh = _factor(content.get("meta"), zone, signal)
    points = Points(NAME, STEP)
    for row in rows_of(content, "data", NAME):
        with points.row():
            start, value = utc(row["point_time"]), row["value"]
            known = isinstance(value, int | float) and not isinstance(value, bool)
            points.add(start, start + STEP, value * grams_per_kwh if known else value, quality)
    return points


def _factor(meta: Any, zone: str, signal: str) -> float:
    if not isinstance(meta, dict):
        raise BadData(f"{NAME}: `meta` is missing, so the unit is not known")
    require_echo(meta.get("region"), zone, NAME)
    require_echo(meta.get("signal_type"), signal, NAME)
    require_echo(meta.get("data_point_period_seconds"), int(STEP.total_seconds()), NAME)
    unit = meta.get("units")
    if not isinstance(unit, str) or unit not in GRAMS_PER_KWH:
        raise BadData(f"{NAME}: the unit {unit!r} is not known; known: {', '.join(GRAMS_PER_KWH)}")
    return GRAMS_PER_KWH[unit]


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y-%m-%dT%H:%MZ")
