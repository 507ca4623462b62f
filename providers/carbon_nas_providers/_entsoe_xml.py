"""Reading ENTSO-E's `GL_MarketDocument` of actual generation per type (A75): pure, and safe against hostile XML.

A curve of type A03 leaves out points equal to the one before; each point then holds until the next, and the last to the
period's end. In any other curve a missing point is a gap.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TypeAlias
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from carbon_nas.errors import BadData, NoData
from carbon_nas.model import utc

SOURCE = "entsoe"
QUARTER = timedelta(minutes=15)
RESOLUTIONS = {"PT15M": QUARTER, "PT30M": 2 * QUARTER, "PT60M": 4 * QUARTER, "PT1H": 4 * QUARTER}
NO_DATA_CODE = "999"
LONGEST_PERIOD = timedelta(days=400)

Megawatts: TypeAlias = dict[str, dict[datetime, float]]
"""Of each production type (`B04`), the mean MW in each quarter hour, by its start."""


def read_generation(body: bytes, eic: str) -> Megawatts:
    """Read a document for the area `eic`.

    Raises:
        NoData: the service acknowledges that it has none.
        BadData: not XML, another document, area, unit or resolution, or a point that is no number.
    """
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise BadData(f"{SOURCE}: the answer is not safe XML (it begins with {body[:24]!r})") from None
    kind = root.tag.rpartition("}")[2]
    if kind == "Acknowledgement_MarketDocument":
        _refuse(root)
    if kind != "GL_MarketDocument":
        raise BadData(f"{SOURCE}: the answer is a {kind[:40]!r}, not a GL_MarketDocument")
    generation: Megawatts = {}
    try:
        for series in root.iterfind("{*}TimeSeries"):
            if series.find("{*}inBiddingZone_Domain.mRID") is not None:  # else it tells what storage takes in
                _check(series, eic)
                quarters = generation.setdefault(_text(series, "{*}MktPSRType/{*}psrType"), {})
                for period in series.iterfind("{*}Period"):
                    quarters.update(_quarters(period, held=_text(series, "{*}curveType") == "A03"))
    except (ValueError, KeyError) as error:
        raise BadData(f"{SOURCE}: the document is not of the expected form ({str(error)[:80]})") from None
    if not generation:
        raise NoData(f"{SOURCE}: the document holds no generation")
    return generation


def _refuse(root: Element) -> None:
    code = root.findtext("{*}Reason/{*}code", "")
    words = root.findtext("{*}Reason/{*}text", "")[:120]
    if code == NO_DATA_CODE:
        raise NoData(f"{SOURCE}: no data (reason 999)")
    raise BadData(f"{SOURCE}: the request was refused, reason {code[:8]!r}: {words}")


def _check(series: Element, eic: str) -> None:
    told = _text(series, "{*}inBiddingZone_Domain.mRID")
    if told != eic:
        raise BadData(f"{SOURCE}: answered for {told!r}, not for {eic!r}")
    unit = _text(series, "{*}quantity_Measure_Unit.name")
    if unit != "MAW":
        raise BadData(f"{SOURCE}: the unit {unit!r} is not known; known: MAW")


def _quarters(period: Element, *, held: bool) -> Iterator[tuple[datetime, float]]:
    start = utc(_text(period, "{*}timeInterval/{*}start"))
    end = utc(_text(period, "{*}timeInterval/{*}end"))
    step = RESOLUTIONS[_text(period, "{*}resolution")]
    if not timedelta(0) < end - start <= LONGEST_PERIOD or start.timestamp() % QUARTER.total_seconds():
        raise ValueError(f"a period from {start} to {end}")
    points = sorted(
        (int(_text(point, "{*}position")), float(_text(point, "{*}quantity")))
        for point in period.iterfind("{*}Point")
    )
    count = (end - start) // step
    for (position, megawatts), following in zip(points, [*points[1:], None], strict=True):
        if not 1 <= position <= count or not abs(megawatts) < float("inf"):
            raise ValueError(f"point {position} of {count}: {megawatts}")
        until = position + 1 if not held else following[0] if following else count + 1
        for index in range((position - 1) * (step // QUARTER), (until - 1) * (step // QUARTER)):
            yield start + index * QUARTER, megawatts


def _text(element: Element, path: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise ValueError(f"no {path.replace('{*}', '')}")
    return found.strip()
