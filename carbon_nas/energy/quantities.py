"""Energy and emissions in words: the unit that fits, and three significant digits.

Names and files say kWh, joules and grams; only what a person reads is scaled here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carbon_nas.model import JOULES_PER_KWH


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of display: `factor` of it make one base unit (kWh, or gram)."""

    symbol: str
    factor: float

    def digits(self, value: float | None) -> str:
        """Write a value, given in the base unit, in this one; `-` when it is not known."""
        return "-" if value is None else significant(value * self.factor)


_ENERGY = (
    (1.0, Unit("kWh", 1.0)),
    (1e-3, Unit("Wh", 1e3)),
    (1e-6, Unit("mWh", 1e6)),
    (0.0, Unit("J", JOULES_PER_KWH)),
)
_EMISSIONS = (
    (1e6, Unit("t", 1e-6)),
    (1e3, Unit("kg", 1e-3)),
    (1e-2, Unit("g", 1.0)),
    (1e-5, Unit("mg", 1e3)),
    (0.0, Unit("µg", 1e6)),
)


def energy_unit(values_kwh: Iterable[float | None]) -> Unit:
    """Choose the unit for a column of energies in kWh, by its largest."""
    return _fitting(values_kwh, _ENERGY)


def emissions_unit(values_grams: Iterable[float | None]) -> Unit:
    """Choose the unit for a column of emissions in grams, by its largest."""
    return _fitting(values_grams, _EMISSIONS)


def energy_text(energy_kwh: float | None) -> str:
    """Write an energy with its unit, as `0.42 Wh`."""
    unit = energy_unit([energy_kwh])
    return "not known" if energy_kwh is None else f"{unit.digits(energy_kwh)} {unit.symbol}"


def emissions_text(emissions_grams: float | None) -> str:
    """Write emissions with their unit, as `12.3 g`."""
    unit = emissions_unit([emissions_grams])
    return "not known" if emissions_grams is None else f"{unit.digits(emissions_grams)} {unit.symbol}"


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits and without an exponent: `0.00042`, `12.3`, `1,230`."""
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = int(f"{rounded:e}".split("e")[1])
    return f"{rounded:,.{max(digits - 1 - exponent, 0)}f}" if rounded else "0"


def _fitting(values: Iterable[float | None], table: Sequence[tuple[float, Unit]]) -> Unit:
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if not largest:
        return next(unit for _, unit in table if unit.factor == 1.0)
    return next(unit for least, unit in table if largest >= least)
