"""The part of the command line that is about the grid: providers, zones, forecasts."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from carbon_nas import assembly, logs, plugins
from carbon_nas import config as configuration
from carbon_nas.clock import SystemClock
from carbon_nas.errors import ConfigurationError
from carbon_nas.grid import probe, zones
from carbon_nas.grid.http import GridClient
from carbon_nas.model import utc

providers = typer.Typer(
    help="The sources of carbon intensities that are installed.", invoke_without_command=True
)
forecast = typer.Typer(help="Forecasts from a zone's own history.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Take the provider's options from this file.")
]


def add_grid_commands(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    app.add_typer(providers, name="providers")
    app.add_typer(forecast, name="forecast")
    app.command("zones")(list_zones)


@providers.callback()
def providers_main(context: typer.Context) -> None:
    """List them, if nothing else is asked."""
    if context.invoked_subcommand is None:
        list_providers()


@providers.command("list")
def list_providers(*, as_json: AsJson = False) -> None:
    """Show what each provider can tell, what it counts, and what it needs."""
    rows = [probe.describe(name, cls).row() for name, cls in _classes().items()]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        kinds = [row[kind] for kind in ("signal", "basis", "accounting") if row[kind] != probe.AS_CONFIGURED]
        row["counts"] = " ".join(kinds)
        row["step"] = row["step"].removeprefix(probe.AS_CONFIGURED)
        row["needs"] = row["needs"].replace(", ", " ")
    _print(rows, ("name", "tells", "counts", "step", "needs"))


@providers.command("check")
def check_provider(
    name: str,
    zone: Annotated[str, typer.Option(help="The zone it should serve.")],
    config: ConfigFile = None,
) -> None:
    """Check options, keys and zone of a provider, and show what it counts, without asking anybody. Exit 78 if not."""

    async def check() -> dict[str, object]:
        async with GridClient() as http:
            return await probe.check(_make(name, config, http), zone)

    found = asyncio.run(check())
    if found["outcome"] != probe.Outcome.OK:
        raise ConfigurationError(str(found["message"]), file=config)
    print(json.dumps({"provider": name, **found}, indent=1, default=str))


@providers.command("probe")
def probe_provider(
    name: str,
    zone: Annotated[str, typer.Option(help="The zone to ask for.")],
    config: ConfigFile = None,
) -> None:
    """Ask the provider once for the newest intensity and show what came. Keys are masked. Exit 1 if it failed."""

    async def ask() -> dict[str, object]:
        async with GridClient() as http:
            return await probe.probe(_make(name, config, http), zone)

    logs.configure("error")
    found = {"provider": name, **asyncio.run(ask())}
    print(json.dumps(found, indent=1, default=str))
    if found["outcome"] != probe.Outcome.OK:
        raise typer.Exit(1)


def list_zones(
    query: Annotated[str | None, typer.Argument(help="A zone (GB) or a cloud region (eu-west-2).")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show which provider serves a zone and under which name; without a zone, all cloud regions and their zones."""
    if query is None:
        regions = [
            {"cloud": one.cloud, "region": one.region, "place": one.place, "zone": one.zone}
            for one in zones.cloud_regions()
        ]
        print(json.dumps(regions)) if as_json else _print(regions, ("cloud", "region", "place", "zone"))
        return
    zone, regions_in = zones.resolve(query)
    served = asyncio.run(zones.serving(zone, _classes()))
    rows = [{"provider": one.provider, "zone": one.zone, "needs": " ".join(one.needs)} for one in served]
    clouds = [f"{region.cloud}:{region.region}" for region in regions_in]
    if as_json:
        print(json.dumps({"zone": zone, "cloud_regions": clouds, "providers": rows}))
        return
    print(f"{zone}: {', '.join(clouds) or 'no region of the big clouds'}")
    _print(rows, ("provider", "zone", "needs"))


@forecast.command("evaluate")
def evaluate_forecasts(
    trace: Annotated[Path, typer.Option(help="A CSV trace with time_utc and an intensity column.")],
    column: Annotated[str | None, typer.Option(help="The intensity column.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First issue, UTC; default: 183 days before the end.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="End of the period, UTC; default: of the trace.")
    ] = None,
    issue_hour: Annotated[int, typer.Option(min=0, max=23, help="Hour of the day of each issue, UTC.")] = 0,
    refit_days: Annotated[
        int | None,
        typer.Option(min=1, help="Fit anew every so many days; default: once, before the first issue."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Score every forecaster on a trace: error by lead, coverage of the 80 % band, share of the saving kept."""
    from carbon_nas.grid.forecast import evaluate_trace  # noqa: PLC0415 -- loads pandas

    found = evaluate_trace(
        trace,
        column=column,
        since=_time(since),
        until=_time(until),
        issue_hour=issue_hour,
        refit_days=refit_days,
    )
    if as_json:
        print(json.dumps(found))
        return
    scores = {**found["forecasters"], "default": found["default"]}
    _print(
        [_score_row(name, score) for name, score in scores.items()], tuple(_score_row("", found["default"]))
    )


def _score_row(name: str, score: dict[str, Any]) -> dict[str, str]:
    row = {"forecaster": name}
    row |= {f"MAPE\n{hours} h": _percent(value, 1.0) for hours, value in score["mape"].items()}
    row["80 %\nband"] = _percent(score["coverage_80"], 100.0)
    return row | {f"kept\n{k} h": _percent(value, 100.0) for k, value in score["saving_kept"].items()}


def _percent(value: float | None, factor: float) -> str:
    return "not known" if value is None else f"{value * factor:.1f} %"


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time, as 2023-07-01 or 2023-07-01T00:00Z") from error
    return utc(text) if when.tzinfo else when.replace(tzinfo=UTC)


def _classes() -> dict[str, Any]:
    return {
        name: plugins.load("providers", name, key="providers") for name in plugins.registered("providers")
    }


def _make(name: str, config: Path | None, http: GridClient) -> Any:
    """Make one provider, with the options that a configuration has for it."""
    clock = SystemClock()
    if config is None:
        return plugins.build("providers", name, {}, key="grid", clock=clock, http=http)
    loaded = configuration.load(config)
    if name in loaded.grid.providers:
        return assembly.make_providers(loaded, assembly.make_clock(loaded, clock.now()), http)[name]
    raise ConfigurationError(f"does not use {name!r}", file=config, key="grid.providers")


def _print(rows: list[dict[str, str]], columns: tuple[str, ...]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    Console().print(table)
