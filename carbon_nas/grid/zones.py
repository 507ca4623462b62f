"""Zones: which provider serves which one and under which name, and which zone a cloud region draws from.

A zone is written as Electricity Maps writes it (`GB`, `DE`, `US-CAL-CISO`); other services have other names, of
which those that follow from it are tried: the balancing authority of a US zone (`US-CISO`), the country, the
price area (`DK1`). The table of cloud regions, `data/cloud_regions.csv`, maps the places that the three big
providers publish to the grid they lie in; where a region spans several grids, to the one of its largest site.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from carbon_nas import secrets
from carbon_nas.clock import SystemClock
from carbon_nas.errors import ConfigurationError

TABLE = Path(__file__).parent.parent / "data" / "cloud_regions.csv"


@dataclass(frozen=True, slots=True)
class CloudRegion:
    """A region of a cloud provider, and the zone its electricity comes from."""

    cloud: str
    region: str
    place: str
    zone: str


@dataclass(frozen=True, slots=True)
class Serving:
    """A provider that serves a zone, under its own name for it; `needs` are the variables that hold its keys."""

    provider: str
    zone: str
    needs: tuple[str, ...] = ()


def cloud_regions() -> list[CloudRegion]:
    """Give the regions of Amazon (aws), Microsoft (azure) and Google (gcp)."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [CloudRegion(**row) for row in csv.DictReader(file)]


def resolve(query: str) -> tuple[str, list[CloudRegion]]:
    """Give the zone that is meant, and the cloud regions in it. `query` is a zone or a region (`eu-west-2`)."""
    regions = cloud_regions()
    wanted = query.rpartition(":")[2].lower()
    zones = {region.zone for region in regions if region.region == wanted}
    zone = zones.pop() if len(zones) == 1 else query.upper()
    return zone, [region for region in regions if region.zone == zone]


def names_of(zone: str) -> list[str]:
    """Give the names under which services may know a zone, the most exact first: `SE-SE3`, `SE3`, `SE`."""
    parts = zone.split("-")
    authority = [f"US-{parts[-1]}"] if parts[0] == "US" and len(parts) > 2 else []
    area = parts[-1:] if any(character.isdigit() for character in parts[-1]) else []
    return list(dict.fromkeys([zone, *authority, *area, parts[0]]))


async def serving(zone: str, providers: Mapping[str, Any]) -> list[Serving]:
    """Ask each of the provider classes, without the network, whether it serves the zone and as what.

    Left out are those that serve whatever they are configured for (a file, a constant), and those whose names do
    not follow from ours.
    """
    found = []
    async with httpx.AsyncClient() as http:
        for name, cls in providers.items():
            if getattr(cls, "own_zone_names", False):
                continue
            try:
                provider = cls(cls.Options(), clock=SystemClock(), http=http)
            except (TypeError, ValueError):
                continue  # it cannot be made without a configuration
            found += await _first_served(name, provider, names_of(zone))
    return found


async def _first_served(name: str, provider: Any, candidates: list[str]) -> list[Serving]:
    for candidate in candidates:
        try:
            await provider.start(candidate)
        except ConfigurationError as error:
            if error.key == "zone":
                continue
        fields = secrets.secret_fields(type(provider).Options)
        return [Serving(name, candidate, tuple(secrets.variable(name, field) for field in fields))]
    return []
