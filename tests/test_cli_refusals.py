"""Bad input, through the real command line: one line that says what and where, exit status 78, nothing written."""

import socket
from pathlib import Path

import pytest
from daemon_process import DIRTY, cli, daemons, everything, query, write_config

from carbon_nas.errors import EX_CONFIG

HEADER = "time_utc,carbon_intensity"
ROWS = ["2023-01-09T23:30Z,100", "2023-01-10T00:00Z,110", "2023-01-10T00:30Z,120", "2023-01-10T01:00Z,130"]


def trace(**lines):
    """Give the trace above with other text in the lines named, as line_3="..."; it is right without any."""
    text = [HEADER, *ROWS]
    for name, line in lines.items():
        text[int(name.removeprefix("line_")) - 1] = line
    return "\n".join(text) + "\n"


TRACES = {
    "null": (trace(line_3="2023-01-10T00:00Z,"), ["line 3", "has no value"]),
    "zero": (trace(line_3="2023-01-10T00:00Z,0"), ["line 3", "'0'", "not above zero"]),
    "negative": (trace(line_5="2023-01-10T01:00Z,-5"), ["line 5", "'-5'", "not above zero"]),
    "absurd": (trace(line_4="2023-01-10T00:30Z,2001"), ["line 4", "'2001'", "above 2000 g/kWh"]),
    "not a number": (trace(line_4="2023-01-10T00:30Z,nan"), ["line 4", "'nan'", "not a number"]),
    "duplicate": (trace(line_4="2023-01-10T00:00Z,120"), ["line 4", "a second time"]),
    "unordered": (trace(line_4="2023-01-09T23:00Z,120"), ["line 4", "earlier than the row before"]),
    "gap": (trace(line_5="2023-01-10T01:30Z,130"), ["line 5", "does not follow"]),
    "no time zone": (trace(line_2="2023-01-09T23:30,100"), ["line 2", "not a UTC time"]),
    "ragged": (trace(line_3="2023-01-10T00:00Z,110,7"), ["line 3", "3 cells"]),
    "wrong columns": (trace(line_1="when,grams"), ["column", "when, grams"]),
    "no intensity": (trace(line_1="time_utc,grams"), ["column", "grams"]),
    "empty": ("", ["empty"]),
    "missing": (None, ["no such file"]),
}


@pytest.fixture
def require_refused(forked_cli, tmp_path):
    """Require that `check-config` and `run` say all of `said` in one line, exit with 78 and write nothing."""

    def require(config, *said, state=tmp_path / "state", check_config=True):
        before = everything(tmp_path)
        commands = [("run", "--config", config, "--state-dir", state), ("check-config", config)]
        for command in commands if check_config else commands[:1]:
            require_one_line(forked_cli(*command), said)
        assert everything(tmp_path) == before

    return require


def require_one_line(done, said):
    assert (done.returncode, done.stdout) == (EX_CONFIG, ""), done.stderr
    assert done.stderr.startswith("carbon-nas: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in said:
        assert str(part) in done.stderr


def test_a_process_with_its_own_start_says_the_same(forked_cli, tmp_path):
    """What the others here are spared."""
    config = write_config(tmp_path / "nas.toml", grid={"zone": "XX"})
    for command in (("run", "--config", config, "--state-dir", tmp_path / "state"), ("check-config", config)):
        done, forked = cli(*command), forked_cli(*command)
        require_one_line(done, ["'XX'"])
        assert (forked.returncode, forked.stdout, forked.stderr) == (EX_CONFIG, "", done.stderr)
    assert everything(tmp_path).keys() == {Path("nas.toml")}


@pytest.mark.parametrize(("text", "said"), TRACES.values(), ids=TRACES.keys())
def test_a_trace_that_is_not_credible_is_refused_by_file_and_line(require_refused, tmp_path, text, said):
    path = tmp_path / "trace.csv"
    if text is not None:
        path.write_text(text)
    config = write_config(tmp_path / "nas.toml", grid__csv={"trace": None, "path": str(path)})
    require_refused(config, path, *said)


def test_a_clock_that_begins_outside_the_trace_is_refused(require_refused, tmp_path):
    config = write_config(tmp_path / "nas.toml", clock={"replay_from": "2025-01-10T00:00:00Z"})
    require_refused(config, "clock.replay_from", "2025-01-10T00:00Z", "2024-01-01T00:00Z")


def test_the_trace_that_the_others_spoil_is_good(forked_cli, tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(trace())
    config = write_config(tmp_path / "nas.toml", grid__csv={"trace": None, "path": str(path)})
    found = forked_cli("check-config", config)
    assert found.stdout == f"{config}: good\n"


VALUES = {
    "unknown zone": ({"grid": {"zone": "XX"}}, ["zone", "'XX'", "GB"]),
    "unknown trace": ({"grid__csv": {"trace": "gb-2032"}}, ["trace", "gb-2032", "gb-2023-30min"]),
    "unknown policy": ({"policy": {"name": "treshold"}}, ["policy.name", "'treshold'", "'threshold'"]),
    "unknown provider": ({"grid": {"providers": ["cvs"]}}, ["grid.providers", "'cvs'", "'csv'"]),
    "unknown controller": ({"controller": {"name": "reinforced"}}, ["controller.name", "'reinforce'"]),
    "wrong type": ({"train": {"epochs": "many"}}, ["train.epochs", "'many'"]),
    "out of range": ({"daemon": {"tick_seconds": 0}}, ["daemon.tick_seconds", "0"]),
    "unknown key": ({"train": {"epoch": 3}}, ["train.epoch", "'epochs'"]),
    "unknown section": ({"trian": {"epochs": 3}}, ["trian", "'train'"]),
    "unknown key of a plug-in": (
        {"policy__threshold": {"clean_bellow": 3}},
        ["clean_bellow", "'clean_below'"],
    ),
    "limits the wrong way round": (
        {"policy__threshold": {"clean_below": 300, "dirty_above": 200}},
        ["policy.threshold", "300"],
    ),
    "no slot": ({"executor__local": {"cpu_slots": 0}}, ["executor.local", "cpu_slots"]),
    "a port of nobody": ({"daemon": {"listen": "127.0.0.1:99999"}}, ["daemon.listen", "99999"]),
    "open to the world": ({"daemon": {"listen": "0.0.0.0:9464"}}, ["daemon.listen", "0.0.0.0"]),  # noqa: S104 -- it is refused
    "no data": (
        {"task": {"dataset": "cifar10", "data_dir": "/nonexistent"}},
        ["task.data_dir", "/nonexistent"],
    ),
}


@pytest.mark.parametrize(("changes", "said"), VALUES.values(), ids=VALUES.keys())
def test_a_wrong_value_is_refused_by_file_and_key(require_refused, tmp_path, changes, said):
    config = write_config(tmp_path / "nas.toml", **changes)
    require_refused(config, config, *said)


def test_a_broken_file_is_refused_by_line(require_refused, tmp_path):
    config = tmp_path / "nas.toml"
    config.write_text("seed = 3\n[train\nepochs = 2\n")
    require_refused(config, config, "not valid TOML", "line 2")


def test_a_missing_file_is_refused_by_name(require_refused, tmp_path):
    require_refused(tmp_path / "nas.toml", tmp_path / "nas.toml", "No such file")


def test_a_port_in_use_is_refused(require_refused, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        config = write_config(tmp_path / "nas.toml", daemon={"listen": address})
        require_refused(config, config, "daemon.listen", address, check_config=False)


def test_a_state_directory_below_a_file_is_refused(require_refused, tmp_path):
    (tmp_path / "file").write_text("")
    state = tmp_path / "file/state"
    require_refused(write_config(tmp_path / "nas.toml"), state, state=state, check_config=False)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a state directory that a daemon has begun and left."""
    folder = tmp_path_factory.mktemp("begun")
    with daemons(folder) as start:
        daemon = start(**DIRTY)
        daemon.wait_until(lambda: query(daemon.state, "select count(*) from candidates")[0][0], "candidates")
        daemon.terminate()
    return folder


STRANGERS = {
    "another zone": (
        {"grid": {"zone": "US-CISO"}, "grid__csv": {"trace": "us-ciso-2021-2022-hourly"}},
        ["grid.zone", "GB", "US-CISO", "--state-dir"],
    ),
    "another space": ({"space__nasbench201": {"channels": 8}}, ["space", "--state-dir"]),
    "pauses after other epochs": ({"fidelity": {"minimum_epochs": 1}}, ["fidelity", "--state-dir"]),
    "another minibatch to score on": ({"score": {"batch_size": 16}}, ["score", "--state-dir"]),
    "another clock": ({"clock": {"speed": 2.0}}, ["clock", "--state-dir"]),
}


@pytest.mark.parametrize(("changes", "said"), STRANGERS.values(), ids=STRANGERS.keys())
def test_the_state_of_another_study_is_refused(require_refused, begun, tmp_path, changes, said):
    if changes.get("grid"):
        changes = {**changes, "clock": {"replay_from": "2022-01-10T00:00:00Z"}}
    config = write_config(tmp_path / "nas.toml", **changes)
    before = everything(begun)
    require_refused(config, *said, state=begun / "nas-state", check_config=False)
    assert everything(begun) == before


def test_a_state_directory_in_use_is_refused_and_its_daemon_goes_on(tmp_path):
    with daemons(tmp_path) as start:
        daemon = start(**DIRTY)
        daemon.wait_until_ready()
        other = write_config(tmp_path / "other.toml", **DIRTY)
        found = cli("run", "--config", other, "--state-dir", daemon.state)
        assert found.returncode == EX_CONFIG
        assert found.stderr.count("\n") == 1
        assert str(daemon.state) in found.stderr
        assert "in use by another daemon" in found.stderr
        assert daemon.get("/healthz").json()["ok"]
        daemon.terminate()


def test_a_wrong_value_in_the_environment_is_refused(require_refused, tmp_path, monkeypatch):
    monkeypatch.setenv("CARBON_NAS_TRAIN__EPOCHS", "0")
    require_refused(write_config(tmp_path / "nas.toml"), "train.epochs", "0")
