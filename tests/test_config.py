"""The configuration: what is wrong in it is refused by file, key and value; the environment wins."""

from datetime import timedelta
from pathlib import Path

import pytest

from carbon_nas import config as configuration
from carbon_nas.config import Config, changed_sections, check, digest
from carbon_nas.errors import ConfigurationError

GOOD = """
seed = 7
[clock]
replay_from = 2023-01-10T00:00:00Z
speed = 60.0
[grid]
zone = "GB"
providers = ["csv"]
feed = { poll_seconds = 60 }
[grid.csv]
trace = "gb-2023-30min"
[policy]
name = "threshold"
[policy.threshold]
clean_below = 120
[search]
max_scored = 40
"""

BAD = [
    # (what stands in the file instead, the key that is named, what is said of it)
    ("[grid", None, "not valid TOML"),
    ("seed = 1\nseed = 2", None, "not valid TOML"),
    ("sede = 1", "sede", "unknown key (did you mean 'seed'?)"),
    ("[gird]\nzone = 'GB'", "gird", "unknown key (did you mean 'grid'?)"),
    ("[clock]\nsped = 2", "clock.sped", "unknown key (did you mean 'speed'?)"),
    ("[grid]\nzona = 'GB'", "grid.zona", "unknown key (did you mean 'zone'?)"),
    ("[grid.feed]\npol_seconds = 2", "grid.feed.pol_seconds", "unknown key (did you mean 'poll_seconds'?)"),
    ("[grid.csv]\ntrac = 'x'", "grid.csv.trac", "unknown key (did you mean 'trace'?)"),
    ("[grid.neso]\nzzz = 1", "grid.neso.zzz", "unknown key; known: base_url"),
    ("[policy.percentil]\npercentile = 1", "policy.percentil", "unknown key (did you mean 'percentile'?)"),
    ("[policy.percentile]\nhysterese = 1", "policy.percentile.hysterese", "did you mean 'hysteresis'?"),
    ("[space.nasbench201]\nchanels = 4", "space.nasbench201.chanels", "did you mean 'channels'?"),
    ("[controller.reinforce]\nentropi = 1", "controller.reinforce.entropi", "did you mean 'entropy'?"),
    ("[search]\nmax_scord = 4", "search.max_scord", "unknown key (did you mean 'max_scored'?)"),
    ("[reward]\nemission_weight = 1", "reward.emission_weight", "did you mean 'emissions_weight'?"),
    ("[task]\ndata_set = 'x'", "task.data_set", "did you mean 'dataset'?"),
    ("[score]\nproxys = []", "score.proxys", "did you mean 'proxies'?"),
    ("[train]\nepoch = 4", "train.epoch", "did you mean 'epochs'?"),
    ("[jobs]\nretry = 1", "jobs.retry", "did you mean 'retries'?"),
    ("[executor.local]\ngpu = 'all'", "executor.local.gpu", "did you mean 'gpus'?"),
    ("[energy]\npeu = 1.5", "energy.peu", "did you mean 'pue'?"),
    ("[daemon]\ntick_second = 1", "daemon.tick_second", "did you mean 'tick_seconds'?"),
    # wrong types
    ("seed = 1.5", "seed", "(got 1.5)"),
    ("seed = 'x'", "seed", "(got 'x')"),
    ("grid = 3", "grid", "(got 3)"),
    ("search = [1]", "search", "(got [1])"),
    ("[grid]\nzone = 5", "grid.zone", "(got 5)"),
    ("[grid]\nproviders = 'csv'", "grid.providers", "(got 'csv')"),
    ("[grid]\nproviders = [1]", "grid.providers.0", "(got 1)"),
    ("[grid]\nfeed = 3", "grid.feed", "(got 3)"),
    ("[grid]\ncsv = 3", "grid.csv", "must be a section of options, [grid.csv] (got 3)"),
    ("[grid.feed]\npoll_seconds = 'often'", "grid.feed.poll_seconds", "(got 'often')"),
    ("[policy]\npercentile = 40", "policy.percentile", "must be a section of options"),
    ("[policy.percentile]\npercentile = 'low'", "policy.percentile.percentile", "(got 'low')"),
    ("[search]\nscore_batch = 'x'", "search.score_batch", "(got 'x')"),
    ("[train]\nepochs = '4 and a half'", "train.epochs", "(got '4 and a half')"),
    ("[clock]\nreplay_from = 'yesterday'", "clock.replay_from", "(got 'yesterday')"),
    # names of nobody
    ("[policy]\nname = 'percentle'", "policy.name", "named 'percentle' (did you mean 'percentile'?)"),
    ("[space]\nname = 'nasbench'", "space.name", "named 'nasbench' (did you mean 'nasbench201'?)"),
    ("[controller]\nname = 'randm'", "controller.name", "named 'randm' (did you mean 'random'?)"),
    ("[executor]\nname = 'lokal'", "executor.name", "named 'lokal' (did you mean 'local'?)"),
    ("[grid]\nproviders = ['nesso']", "grid.providers", "named 'nesso' (did you mean 'neso'?)"),
    ("[task]\ndataset = 'fashion61'", "task.dataset", "named 'fashion61' (did you mean 'fashion16'?)"),
    ("[score]\nproxies = ['synflo']", "score.proxies", "named 'synflo' (did you mean 'synflow'?)"),
    (
        "[score]\ninference_cost = 'energy'",
        "score.inference_cost",
        "no cost named 'energy'; known: flops, parameters,",
    ),
    (
        "[score]\ninference_cost = 'latency:pixel1'",
        "score.inference_cost",
        "no published device named 'pixel1' (did you mean 'pixel",
    ),
    (
        "[score]\ninference_cost = 'latency:pixel2'",
        "score.inference_cost",
        "the published latencies are of images of 32x32, not 16x16",
    ),
    (
        "[score]\ninference_cost = 'latency:pixel2'\n[space.nasbench201]\nchannels = 8",
        "score.inference_cost",
        "the published latencies are of nasbench201 at 16 channels and 5 cells",
    ),
    (
        "[score]\ninference_cost = 'latency:pixel2'\n[space]\nname = 'mobile'",
        "score.inference_cost",
        "the published latencies are of nasbench201",
    ),
    (
        "[space]\nname = 'mobile'\n[space.mobile]\nside = 224",
        "space.mobile",
        "for images of 224x224, and those of fashion16 are 16x16: set the space's option side to 16",
    ),
    ("[grid.csv]\ntrace = 'a'\npath = 'b'", "grid.csv", "give either path or trace"),
    # values that cannot be
    ("[grid]\nproviders = []", "grid.providers", "at least one provider"),
    ("[grid]\nproviders = ['csv', 'csv']", "grid.providers", "each once"),
    (
        "[grid.feed]\npoll_seconds = -1",
        "grid.feed",
        "poll_seconds must be above zero and at most 1e+08, got -1",
    ),
    ("[grid.feed]\nhistory_days = 1e9", "grid.feed", "history_days must be above zero and at most 4000"),
    ("[grid.feed]\nfallback_grams_per_kwh = 5000", "grid.feed", "at most 2000, got 5000"),
    ("[clock]\nspeed = 2.0", "clock", "speed needs replay_from"),
    ("[clock]\nreplay_from = 2023-01-10T00:00:00", "clock.replay_from", "with its zone"),
    ("[clock]\nreplay_from = 2023-01-10T00:00:00Z\nspeed = 0.0", "clock.speed", "(got 0.0)"),
    ("[clock]\nreplay_from = 2023-01-10T00:00:00Z\nspeed = inf", "clock.speed", "(got inf)"),
    ("[daemon]\nlisten = '0.0.0.0:9464'", "daemon.listen", "only a loopback address"),
    ("[daemon]\nlisten = '9464'", "daemon.listen", "only a loopback address"),
    ("[daemon]\nlisten = '127.0.0.1:http'", "daemon.listen", "the port must be a number"),
    ("[daemon]\nlisten = '127.0.0.1:65536'", "daemon.listen", "the port must be a number"),
    ("[daemon]\ntick_seconds = 0", "daemon.tick_seconds", "(got 0)"),
    ("[daemon]\ntick_seconds = nan", "daemon.tick_seconds", "(got nan)"),
    ("[daemon]\nreport_seconds = inf", "daemon.report_seconds", "(got inf)"),
    ("[jobs]\nmax_delay_hours = 1e300", "jobs.max_delay_hours", "(got 1e+300)"),
    ("[jobs]\nretries = -1", "jobs.retries", "(got -1)"),
    ("[energy]\nwatts_per_core = 0", "energy", "watts_per_core must be above zero"),
    ("[energy]\nwatts_per_core = inf", "energy", "watts_per_core must be a finite number"),
    ("[energy]\npue = 0.9", "energy", "pue cannot be below 1.0"),
    ("[energy]\nsample_seconds = inf", "energy", "sample_seconds must be a finite number"),
    ("[reward]\nreference_cost = 0", "reward", "reference_cost must be finite and above zero"),
    ("[reward]\nreference_grams = -1", "reward", "reference_grams must be finite and above zero"),
    ("[executor.local]\ncpu_slots = -1", "executor.local", "cpu_slots cannot be negative"),
    ("[executor.local]\nlinger_seconds = nan", "executor.local", "linger_seconds cannot be negative"),
    ("[search]\nminimum_pool = 400", "search", "must not exceed queue_capacity"),
    ("[fidelity]\nminimum_epochs = 4", "fidelity.minimum_epochs", "must be below train.epochs, 4"),
    ("[fidelity]\nreduction_factor = 1", "fidelity", "reduction_factor must be at least 2, got 1"),
    ("[train]\nepochs = 0", "train.epochs", "(got 0)"),
    ("[task]\ndataset = 'cifar10'", "task", "set data_dir"),
    ("[task]\ndataset = 'cifar10'\ndata_dir = '/nowhere'", "task.data_dir", "no folder /nowhere/cifar-10-"),
]


def write(folder: Path, text: str) -> Path:
    path = folder / "carbon-nas.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("text", "key", "said"), BAD, ids=[f"{n}-{bad[1]}" for n, bad in enumerate(BAD)])
def test_what_is_wrong_is_refused_by_file_key_and_value(tmp_path, text, key, said):
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(path)
    assert caught.value.file == path
    assert caught.value.key == key
    assert said in caught.value.problem
    assert str(caught.value).startswith(f"{path}: {key}: " if key else f"{path}: ")
    assert "\n" not in str(caught.value) or key is None


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            configuration.load(path)
        assert caught.value.file == path
    path = tmp_path / "latin.toml"
    path.write_bytes('study = "Zürich"'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        configuration.load(path)


def test_a_good_file_is_read_as_it_stands(tmp_path):
    config = configuration.load(write(tmp_path, GOOD))
    assert config.seed == 7
    assert config.clock.replay_from.utcoffset() == timedelta(0)
    assert (config.grid.zone, config.grid.providers) == ("GB", ("csv",))
    assert config.grid.feed.poll_seconds == 60
    assert config.grid.options("csv") == {"trace": "gb-2023-30min"}
    assert config.grid.options("neso") == {}
    assert config.policy.options("threshold") == {"clean_below": 120}
    assert config.search.max_scored == 40
    assert config.daemon.listen == "127.0.0.1:9464"


def test_an_empty_file_is_a_whole_configuration(tmp_path):
    assert configuration.load(write(tmp_path, "")) == Config()


def test_the_environment_wins_over_the_file_key_by_key(tmp_path, monkeypatch):
    monkeypatch.setenv("CARBON_NAS_GRID__ZONE", "US-CISO")
    monkeypatch.setenv("CARBON_NAS_POLICY__THRESHOLD__CLEAN_BELOW", "90")
    monkeypatch.setenv("CARBON_NAS_SEARCH__MAX_SCORED", "3")
    monkeypatch.setenv("CARBON_NAS_GRID__PROVIDERS", '["csv", "neso"]')
    config = configuration.load(write(tmp_path, GOOD))
    assert config.grid.zone == "US-CISO"
    assert config.grid.providers == ("csv", "neso")
    assert config.grid.options("csv") == {"trace": "gb-2023-30min"}
    assert float(config.policy.options("threshold")["clean_below"]) == 90
    assert (config.search.max_scored, config.seed) == (3, 7)


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("CARBON_NAS_SEED", "many", "seed"),
        ("CARBON_NAS_CLOCK__SPED", "2", "clock.sped"),
        ("CARBON_NAS_GRID__FEED__POLL_SECONDS", "often", "grid.feed.poll_seconds"),
        ("CARBON_NAS_GRID", "GB", "environment"),
        ("CARBON_NAS_GRID__PROVIDERS", "csv", "environment"),
    ],
)
def test_a_wrong_value_in_the_environment_is_a_configuration_error_too(
    tmp_path, monkeypatch, name, value, key
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(write(tmp_path, GOOD))
    assert caught.value.key == key


def test_sections_that_differ_are_named():
    one = check({"seed": 1})
    assert changed_sections(one, check({"seed": 1})) == set()
    other = check({"seed": 1, "policy": {"always": {}}, "jobs": {"retries": 9}, "study": "other"})
    assert changed_sections(one, other) == {"policy", "jobs", "study"}
    nested = {"grid": {"feed": {"poll_seconds": 1}}}
    assert changed_sections(one, check({"seed": 1} | nested)) == {"grid"}


def test_the_digest_is_of_what_was_understood_not_of_how_it_was_written(tmp_path):
    one = digest(configuration.load(write(tmp_path, GOOD)))
    assert len(one) == 64
    reordered = "# a comment\n" + GOOD.replace("60.0", "6e1").replace(
        "[search]", "[jobs]\nretries = 2\n[search]"
    )
    assert digest(configuration.load(write(tmp_path, reordered))) == one
    assert digest(configuration.load(write(tmp_path, GOOD.replace("120", "121")))) != one


def test_a_configuration_cannot_be_changed_in_place():
    config = check({})
    for holder, name in ((config, "seed"), (config.grid, "zone"), (config.daemon, "listen")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(holder, name, "x")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:9464", "[::1]:65535"])
def test_loopback_addresses_are_taken(listen):
    assert check({"daemon": {"listen": listen}}).daemon.listen == listen


@pytest.mark.parametrize("cost", ["flops", "parameters", "latency", "latency:pixel2"])
def test_a_cost_that_can_be_found_is_taken(tmp_path, cost):
    (tmp_path / "cifar-10-batches-py").mkdir()
    task = {"dataset": "cifar10", "data_dir": str(tmp_path)}
    assert check({"task": task, "score": {"inference_cost": cost}}).score.cost.name == cost


def test_a_published_latency_needs_images_of_a_size_that_is_known_at_the_start(tmp_path):
    (tmp_path / "train").mkdir()
    task = {"dataset": "image-folder", "data_dir": str(tmp_path)}
    with pytest.raises(ConfigurationError, match="only known when they are read") as caught:
        check({"task": task, "score": {"inference_cost": "latency:pixel2"}})
    assert caught.value.key == "score.inference_cost"
