"""What the command line shows of a search that is over, and of the program itself."""

import json

import pytest
from daemon_process import cli, content, everything

from carbon_nas.errors import EX_CONFIG


@pytest.fixture(scope="module")
def state(ended_state):
    return ended_state


def test_status_tells_a_program_how_the_search_stands(state):
    before = content(state)
    found = cli("status", "--state-dir", state, "--json")
    assert (found.returncode, found.stderr) == (0, "")
    [line] = found.stdout.splitlines()
    now = json.loads(line)
    assert (
        now.items()
        >= {"candidates": 4, "scored": 4, "trained": 2, "window": "clean", "policy": "always"}.items()
    )
    assert now["jobs"] == {"score done": 1, "train done": 2}
    assert now["best_arch"].count("|") == 9
    assert 0.1 < now["best_accuracy"] < 1
    assert now["energy_kwh"] > 0
    # 62 to 74 g/kWh in the replayed hour; the whole run took minutes of it
    assert 55 < now["emissions_grams"] / now["energy_kwh"] < 80
    assert content(state) == before


def test_status_tells_a_person_the_same_and_cuts_nothing_off(forked_cli, state):
    now = json.loads(forked_cli("status", "--state-dir", state, "--json").stdout)
    found = forked_cli("status", "--state-dir", state, COLUMNS="60")
    assert found.returncode == 0
    assert all(len(line.rstrip()) <= 60 for line in found.stdout.splitlines())
    assert "".join(now["best_arch"].split()) in "".join(found.stdout.split())
    assert "1 score done, 2 train done" in " ".join(found.stdout.split())
    assert "{" not in found.stdout


def test_a_report_is_written_where_asked_and_says_what_status_says(forked_cli, state, tmp_path):
    now = json.loads(forked_cli("status", "--state-dir", state, "--json").stdout)
    found = forked_cli("report", "--state-dir", state, "--out", tmp_path / "out")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1] == f"Report: {tmp_path / 'out/report.html'}"
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["search"]["trained"] == now["trained"]
    assert report["search"]["best_accuracy"] == now["best_accuracy"]
    assert report["totals"]["energy_kwh"] == pytest.approx(now["energy_kwh"])
    assert report["totals"]["emissions_grams"] == pytest.approx(now["emissions_grams"])


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_place_where_nothing_has_run_is_told_in_one_line(forked_cli, tmp_path, command):
    found = forked_cli(command, "--state-dir", tmp_path / "none")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("carbon-nas: ")
    assert found.stderr.count("\n") == 1
    assert str(tmp_path / "none") in found.stderr
    assert everything(tmp_path) == {}


@pytest.mark.parametrize(
    ("command", "names"),
    [("providers", ["csv", "neso"]), ("policies", ["always", "percentile", "threshold"])],
)
def test_what_is_installed_is_listed_with_what_it_does(forked_cli, command, names):
    found = forked_cli(command)
    assert (found.returncode, found.stderr) == (0, "")
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if line.strip()}
    for name in names:
        assert len(lines[name].split()) >= 3  # its name, and what it does


def test_help_names_every_command_and_each_has_its_own(forked_cli):
    commands = ("demo", "run", "check-config", "status", "report", "providers", "policies")
    whole = forked_cli("--help")
    assert whole.returncode == 0
    assert "STATE_DIRECTORY" in forked_cli("run", "--help").stdout
    for command in commands:
        assert f" {command} " in whole.stdout


def test_usage_errors_are_not_configuration_errors(forked_cli, tmp_path):
    assert forked_cli("run").returncode == 2
    assert forked_cli("demo", "--seconds", "5").returncode == 2
    assert forked_cli("check-config", tmp_path / "none.toml").returncode == EX_CONFIG
