"""Zones: what a cloud region draws from, and who serves it under which name."""

import asyncio

import pytest

from carbon_nas import plugins
from carbon_nas.grid import zones

PROVIDERS = {
    name: plugins.load("providers", name, key="providers") for name in plugins.registered("providers")
}


def served(zone: str) -> dict[str, str]:
    return {one.provider: one.zone for one in asyncio.run(zones.serving(zone, PROVIDERS))}


def test_every_region_is_named_once_and_has_a_zone() -> None:
    regions = zones.cloud_regions()
    assert {region.cloud for region in regions} == {"aws", "azure", "gcp"}
    assert len({(region.cloud, region.region) for region in regions}) == len(regions)
    assert all(region.zone and region.place for region in regions)


@pytest.mark.parametrize(
    ("query", "zone"),
    [("eu-west-2", "GB"), ("azure:uksouth", "GB"), ("gb", "GB"), ("us-west-1", "US-CAL-CISO")],
)
def test_a_region_or_a_zone_may_be_asked_for(query: str, zone: str) -> None:
    found, regions = zones.resolve(query)
    assert found == zone
    assert all(region.zone == zone for region in regions)
    assert regions


@pytest.mark.parametrize(
    ("zone", "provider", "name"),
    [
        ("GB", "neso", "GB"),
        ("US-CAL-CISO", "eia", "US-CISO"),
        ("US-CAL-CISO", "electricity-maps", "US-CAL-CISO"),
        ("SE-SE3", "entsoe", "SE3"),
        ("SE-SE3", "energy-charts", "SE"),
        ("FR", "rte-eco2mix", "FR"),
    ],
)
def test_a_zone_is_served_under_the_provider_s_own_name(zone: str, provider: str, name: str) -> None:
    assert served(zone)[provider] == name


@pytest.mark.parametrize(
    ("zone", "provider"),
    [("US-CAL-CISO", "energy-charts"), ("US-CAL-CISO", "neso"), ("FR", "neso"), ("SG", "eia")],
)
def test_nobody_claims_a_zone_he_does_not_serve(zone: str, provider: str) -> None:
    assert provider not in served(zone)


def test_the_keys_that_are_needed_are_named() -> None:
    [eia] = [one for one in asyncio.run(zones.serving("US-CAL-CISO", PROVIDERS)) if one.provider == "eia"]
    assert eia.needs == ("CARBON_NAS_EIA_API_KEY",)
