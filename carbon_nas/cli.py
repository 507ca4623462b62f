"""The command line. Exit status: 0 well, 1 an error of ours or the machine's, 2 usage, 78 configuration."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from carbon_nas import assembly, logs, plugins, record, state_directory
from carbon_nas import config as configuration
from carbon_nas.cli_evaluate import add_evaluate_commands
from carbon_nas.cli_grid import add_grid_commands
from carbon_nas.cli_search import add_search_commands
from carbon_nas.daemon import Daemon
from carbon_nas.energy.quantities import significant
from carbon_nas.errors import EX_CONFIG, CarbonNasError, ConfigurationError
from carbon_nas.report import build_report, write_report
from carbon_nas.report.text import render_text
from carbon_nas.serve.notify import Notifier

app = typer.Typer(
    help="Search for neural architectures when the electricity is clean.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StateDirectory = Annotated[
    Path,
    typer.Option(
        "--state-dir", envvar="STATE_DIRECTORY", help="Where the store, checkpoints and reports are kept."
    ),
]
add_grid_commands(app)
add_evaluate_commands(app)
add_search_commands(app)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def main() -> None:
    """Run, and turn our errors into one line and an exit status."""
    try:
        app()
    except ConfigurationError as error:
        _complain(error)
        sys.exit(EX_CONFIG)
    except CarbonNasError as error:
        _complain(error)
        sys.exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the report is left.")] = Path("carbon-nas-demo"),
    seconds: Annotated[float, typer.Option(min=20, help="How long the two days may last.")] = 140.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Replay two real days of Great Britain's grid: score, train, suspend, resume, report."""
    from carbon_nas.demo import run_demo  # noqa: PLC0415 -- rich's live view is not for the service

    logs.configure("warning")
    console = None if as_json else Console()
    result = run_demo(out, seconds=seconds, console=console)
    if console is None:
        print(json.dumps(result.summary()))
        return
    print(render_text(result.report))
    print(f"Report: {result.page.resolve()}")


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="The TOML configuration.")],
    state_dir: StateDirectory,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the service until SIGTERM; SIGHUP reloads the configuration."""
    notifier = Notifier.from_environment()
    logs.configure(log_level)
    loaded = configuration.load(config)
    with _in_file(config):
        asyncio.run(Daemon(loaded, state_dir, config_path=config, notifier=notifier).run())


@app.command("check-config")
def check_config(config: Annotated[Path, typer.Argument(help="The TOML configuration.")]) -> None:
    """Check a configuration, its plug-ins and its trace, and write nothing."""
    loaded = configuration.load(config)
    with _in_file(config):
        asyncio.run(assembly.validate(loaded))
    print(f"{config}: good")


@app.command()
def status(state_dir: StateDirectory, *, as_json: AsJson = False) -> None:
    """Show how the search stands, from the store; the daemon need not run."""
    with contextlib.closing(state_directory.open_for_reading(state_dir)) as store:
        now = record.standing(store)
    if as_json:
        print(json.dumps(now, default=str))
        return
    table = Table("", Column(overflow="fold"), show_header=False, box=None)
    for name, value in now.items():
        table.add_row(name.replace("_", " "), _in_words(value))
    Console().print(table, highlight=False)


@app.command()
def report(
    state_dir: StateDirectory,
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default `report` in the state directory.")
    ] = None,
) -> None:
    """Write report.html and report.json from the store; the daemon need not run."""
    with contextlib.closing(state_directory.open_for_reading(state_dir)) as store:
        kept = record.load(store)
    page = write_report(kept, out or state_dir / "report")
    print(render_text(build_report(kept)))
    print(f"Report: {page.resolve()}")


@app.command()
def policies() -> None:
    """List the policies that are installed."""
    _list("policies")


def _list(group: str) -> None:
    table = Table(box=None)
    for column in ("name", "what it does", "from"):
        table.add_column(column)
    for name, point in plugins.registered(group).items():
        text = (plugins.load(group, name, key=group).__doc__ or "").strip().partition("\n")[0]
        table.add_row(name, text, point.dist.name if point.dist else "")
    Console().print(table)


@contextlib.contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """Name the configuration file in errors that do not name one."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(error.problem, file=error.file or path, key=error.key) from error


def _in_words(value: object) -> str:
    """Write a value of `status` for a person."""
    match value:
        case None:
            return "-"
        case float():
            return significant(value)
        case dict():
            return ", ".join(f"{count} {name}" for name, count in value.items()) or "none"
    return str(value)


def _complain(error: CarbonNasError) -> None:
    print(f"carbon-nas: {error}", file=sys.stderr)
