"""From what was generated, by fuel, to an intensity: for services that publish the mix and no carbon.

Grams per kWh are the medians of CarbonCast (Maji et al., BuildSys 2022), table 1, which rest on IPCC AR5 WG III
(2014), annex III, table A.III.2 (life cycle) and on plant emissions (direct). Lignite, peat and shale are taken for
coal, waste for other; geothermal and other renewables are of the same IPCC table. Storage gives back what was counted
when it was filled, so it is left out; so are imports.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from carbon_nas.model import Basis


class Fuel(StrEnum):
    """What electricity is made of."""

    COAL = "coal"
    GAS = "gas"
    OIL = "oil"
    NUCLEAR = "nuclear"
    HYDRO = "hydro"
    WIND = "wind"
    SOLAR = "solar"
    BIOMASS = "biomass"
    GEOTHERMAL = "geothermal"
    OTHER_RENEWABLE = "other_renewable"
    OTHER = "other"
    STORAGE = "storage"  # not counted


FACTORS: Mapping[Basis, Mapping[Fuel, float]] = {
    Basis.LIFECYCLE: {
        Fuel.COAL: 820,
        Fuel.GAS: 490,
        Fuel.OIL: 650,
        Fuel.NUCLEAR: 12,
        Fuel.HYDRO: 24,
        Fuel.WIND: 11,
        Fuel.SOLAR: 45,
        Fuel.BIOMASS: 230,
        Fuel.GEOTHERMAL: 38,
        Fuel.OTHER_RENEWABLE: 38,
        Fuel.OTHER: 700,
    },
    Basis.DIRECT: {
        Fuel.COAL: 760,
        Fuel.GAS: 370,
        Fuel.OIL: 406,
        Fuel.NUCLEAR: 0,
        Fuel.HYDRO: 0,
        Fuel.WIND: 0,
        Fuel.SOLAR: 0,
        Fuel.BIOMASS: 0,
        Fuel.GEOTHERMAL: 0,
        Fuel.OTHER_RENEWABLE: 0,
        Fuel.OTHER: 575,
    },
}


def factors_of(basis: Basis, own: Mapping[Fuel, float]) -> Mapping[Fuel, float]:
    """Give the factors of `basis`, with a user's `own` in their place where declared.

    Raises:
        ValueError: there are none of this basis, or one is no credible number.
    """
    if basis not in FACTORS:
        raise ValueError(f"basis must be {' or '.join(FACTORS)}: these factors are known")
    if any(not 0 <= value <= 2000 for value in own.values()) or Fuel.STORAGE in own:
        raise ValueError("factors are in g/kWh, from 0 to 2000, and storage has none")
    return {**FACTORS[basis], **own}


def grams_per_kwh(generated: Mapping[Fuel, float], factors: Mapping[Fuel, float]) -> float:
    """Weigh each fuel's factor by what it generated, in any unit of energy.

    What a plant takes for itself while it stands (solar at night) is no negative generation.

    Raises:
        ValueError: nothing was generated.
    """
    amounts = {fuel: max(amount, 0.0) for fuel, amount in generated.items() if fuel is not Fuel.STORAGE}
    total = sum(amounts.values())
    if not total > 0:
        raise ValueError("nothing was generated")
    return sum(amount * factors[fuel] for fuel, amount in amounts.items()) / total


def missing_fuels(generated: Iterable[str], expected: Iterable[str]) -> str:
    """Name the series that an hour lacks: an hour without its coal would look clean."""
    return ", ".join(sorted(set(expected) - set(generated)))
