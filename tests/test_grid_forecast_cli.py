"""What `carbon-nas forecast evaluate` says, through the real command line."""

import json
from collections.abc import Callable
from importlib.resources import files
from subprocess import CompletedProcess

from cli_forks import CommandForks
from daemon_process import cli

GB = str(files("carbon_nas") / "data" / "gb-2023-30min.csv.gz")
PERIOD = ("--from", "2023-11-20", "--until", "2023-12-10")


def evaluated(run: Callable[..., CompletedProcess[str]], *options: str) -> str:
    done = run("forecast", "evaluate", "--trace", GB, *PERIOD, *options, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_table_fits_a_terminal_with_every_name_whole() -> None:
    lines = evaluated(cli).splitlines()
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines[1:]]
    assert names == ["forecaster", "blend", "ridge", "mean7", "weekly", "persistence", "default"]


def test_it_can_be_fitted_anew_every_so_many_days(forked_cli: CommandForks) -> None:
    once, again = (
        json.loads(evaluated(forked_cli, "--json", *options)) for options in ((), ("--refit-days", "7"))
    )
    assert (once["period"]["refit_days"], again["period"]["refit_days"]) == (None, 7)
    assert once["forecasters"]["persistence"]["mape"] == again["forecasters"]["persistence"]["mape"]
    assert once["forecasters"]["ridge"]["mape"] != again["forecasters"]["ridge"]["mape"]
