"""Finding parts by name: real entry points in real distribution folders on the path."""

import sys
from dataclasses import dataclass
from importlib.metadata import entry_points

import pytest

from carbon_nas import plugins
from carbon_nas.errors import ConfigurationError

OURS = {
    "providers": {"csv", "neso"},
    "policies": {"always", "threshold", "percentile"},
    "spaces": {"mobile", "nasbench201"},
    "controllers": {"random", "reinforce"},
    "executors": {"local"},
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution's metadata on the path, as an installer would."""

    def add(distribution, **points):
        folder = tmp_path / distribution
        info = folder / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "".join(f"[carbon_nas.{group}]\n{line}\n" for group, line in points.items())
        (info / "entry_points.txt").write_text(lines)
        monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
        return folder

    return add


def refused(call, *given, **named):
    with pytest.raises(ConfigurationError) as caught:
        call(*given, **named)
    return str(caught.value)


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_our_own_parts_are_found_as_a_strangers_are(group):
    assert set(plugins.registered(group)) >= OURS[group]
    for name, point in plugins.registered(group).items():
        assert isinstance(plugins.load(group, name, key=group).Options, type), point


def test_what_is_installed_and_removed_meanwhile_is_noticed(install):
    folder = install("stranger", policies="lunar = stranger_policy:Lunar")
    assert "lunar" in plugins.registered("policies")
    (folder / "stranger-1.0.dist-info").rename(folder / "gone")
    assert "lunar" not in plugins.registered("policies")
    (folder / "gone").rename(folder / "stranger-1.0.dist-info")
    assert "lunar" in plugins.registered("policies")


def test_a_strangers_part_is_found_and_built_with_its_options_and_context(install):
    folder = install("stranger", policies="lunar = stranger_policy:Lunar")
    (folder / "stranger_policy.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Phase:\n    phase: float = 0.5\n"
        "class Lunar:\n"
        "    Options = Phase\n"
        "    def __init__(self, options, *, moon):\n        self.got = options.phase, moon\n"
    )
    made = plugins.build("policies", "lunar", {"phase": 0.25}, key="policy", moon="full")
    assert made.got == (0.25, "full")


def test_two_distributions_that_claim_one_name_are_refused_by_their_names(install):
    install("first-owner", policies="lunar = one:Lunar")
    install("second-owner", policies="lunar = two:Lunar")
    said = refused(plugins.load, "policies", "lunar", key="policy.name")
    assert said.startswith("carbon_nas.policies: 'lunar' is claimed by ")
    assert {"first-owner", "second-owner"} <= set(said.replace(";", " ").split())
    # Whoever asks for another one hears of it too, rather than by chance.
    assert "claimed by" in refused(plugins.registered, "policies")
    assert set(plugins.registered("providers")) >= OURS["providers"]


def test_a_stranger_cannot_take_the_name_of_a_part_of_ours(install):
    install("impostor", providers="csv = impostor:Csv")
    assert "'csv' is claimed by" in refused(plugins.registered, "providers")


def test_one_part_registered_twice_is_one_part(install):
    value = next(p.value for p in entry_points(group="carbon_nas.policies") if p.name == "always")
    install("stale-copy", policies=f"always = {value}")
    assert "always" in plugins.registered("policies")


@pytest.mark.parametrize(
    ("group", "name", "said"),
    [
        (
            "policies",
            "precentile",
            "policy.name: none of the policies is named 'precentile' (did you mean 'percentile'?)",
        ),
        ("providers", "nesso", "policy.name: none of the providers is named 'nesso' (did you mean 'neso'?)"),
        ("spaces", "zzz", "policy.name: none of the spaces is named 'zzz'; known: mobile, nasbench201"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_right_one(group, name, said):
    assert refused(plugins.load, group, name, key="policy.name").startswith(said)


@pytest.mark.parametrize("value", ["no_such_module:X", "carbon_nas.model:NoSuchClass", "carbon_nas.no:X"])
def test_a_part_that_is_not_where_it_should_be_is_refused_by_name(install, value):
    install("broken", policies=f"lunar = {value}")
    said = refused(plugins.load, "policies", "lunar", key="policy.name")
    assert said.startswith("policy.name: 'lunar' of broken cannot be imported: ")


@dataclass(frozen=True)
class Options:
    hours: float = 1.0
    count: int = 1

    def __post_init__(self):
        if self.count > 9:
            raise ValueError("count must be at most 9")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"huors": 1}, "p.huors: unknown key (did you mean 'hours'?); known: hours, count"),
        ({"zzz": 1}, "p.zzz: unknown key; known: hours, count"),
        ({"hours": "soon"}, "p.hours: Input should be a valid number"),
        ({"count": 1.5}, "p.count: Input should be a valid integer"),
        ({"count": 10}, "p: count must be at most 9"),
    ],
)
def test_an_option_that_is_wrong_is_refused_with_its_key(given, said):
    assert refused(plugins.check_options, Options, given, key="p").startswith(said)


def test_the_value_that_is_wrong_is_shown():
    assert "(got 'soon')" in refused(plugins.check_options, Options, {"hours": "soon"}, key="p")


def test_a_part_without_options_says_so():
    @dataclass
    class Nothing:
        pass

    assert "known: none" in refused(plugins.check_options, Nothing, {"x": 1}, key="p")
    assert plugins.check_options(Options, {}, key="p") == Options()
