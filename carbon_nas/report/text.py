"""The report in a terminal: the headline, in plain text."""

import textwrap
from collections.abc import Iterator

from carbon_nas.energy.quantities import emissions_text, energy_text
from carbon_nas.report.model import Report
from carbon_nas.report.words import comparison, cost_text


def render_text(report: Report) -> str:
    """Write the summary, one line for each finding, and every check that failed."""
    lines = list(_findings(report))
    width = max(len(name) for name, _ in lines)
    body = [f"  {name:<{width}}  {value}" for name, value in lines]
    title = f"{report.study} · zone {report.intensity_method.zone}"
    period = f"{report.period.start:%Y-%m-%d %H:%M} to {report.period.end:%Y-%m-%d %H:%M} UTC"
    notice = textwrap.wrap(report.period.replay or "", 78, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([title, period, *notice, "", *body, "", *_checks(report)]) + "\n"


def _findings(report: Report) -> Iterator[tuple[str, str]]:
    search, totals = report.search, report.totals
    yield "scored", f"{search.scored:,} of {search.candidates:,} candidates"
    yield (
        "trained",
        f"{search.trained:,} ({search.suspended} suspended, {search.resumed} resumed, {search.failed} failed)",
    )
    if search.paused:
        yield "paused early", f"{search.paused:,}, after some of the epochs: others promised more"
    if search.best_arch is None or search.best_accuracy is None:
        yield "best", f"none: {search.missing['best_arch']}"
    else:
        yield "best accuracy", f"{search.best_accuracy:.2%}"
        yield "best architecture", search.best_arch
        if (spent := search.trainings[0].inference_cost) is not None:
            yield "its inference cost", cost_text(search.cost, spent)
    if totals.energy_kwh is None:
        yield "energy", f"not known: {totals.missing['energy_kwh']}"
    else:
        yield "energy", f"{energy_text(totals.energy_kwh)} ({totals.energy_kwh:.3g} kWh)"
        yield "emissions", f"{emissions_text(totals.emissions_grams)} CO₂e"
    yield "had it run at once", comparison(report)


def _checks(report: Report) -> Iterator[str]:
    failed = [check for check in report.checks if not check.passed]
    yield f"{len(report.checks) - len(failed)} of {len(report.checks)} checks passed"
    for check in failed:
        yield f"  FAILED {check.name}: {check.detail}"
