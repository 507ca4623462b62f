"""Sentences that every view of a report shares."""

from carbon_nas.energy.quantities import emissions_text, significant
from carbon_nas.report.model import CostUnit, Report


def duration_text(seconds: float | None) -> str:
    """Write a duration in the unit that fits."""
    if seconds is None:
        return "not known"
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if abs(seconds) >= size:
            return f"{significant(seconds / size)} {name}"
    return f"{significant(seconds)} seconds"


def cost_text(cost: CostUnit, value: float) -> str:
    """Write what an inference costs, with its unit and of what."""
    return f"{significant(value / cost.scale)} {cost.label}"


def comparison(report: Report) -> str:
    """Say how the run compares with the same work at once: a hypothesis, in the conditional."""
    beside = report.counterfactual
    if beside.at_once_emissions_grams is None or beside.saved_grams is None:
        return f"not known: {beside.missing['at_once_emissions_grams']}"
    if beside.saved_percent is None or abs(beside.saved_percent) < 0.05:
        return f"it would have emitted as much: {emissions_text(beside.at_once_emissions_grams)} CO₂e"
    more = "more" if beside.saved_grams > 0 else "less"
    actual = beside.at_once_emissions_grams - beside.saved_grams
    relative = f" ({abs(beside.saved_grams) / actual:.1%})" if actual > 0 else ""
    return (
        f"it would have emitted {emissions_text(beside.at_once_emissions_grams)} CO₂e, "
        f"{emissions_text(abs(beside.saved_grams))}{relative} {more}"
    )
