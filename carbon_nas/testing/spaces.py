"""The suite for search spaces, and a small space to test controllers with."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from carbon_nas import plugins
from carbon_nas.interfaces import SearchSpace
from carbon_nas.search.ranking import AGGREGATE

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class DigitOptions:
    """How many sizes each layer can have."""

    choices: tuple[int, ...] = (5,) * 6


class DigitSpace:
    """Architectures such as `0-2-1`: at each decision, how many units a hidden layer has. Needs no torch to search."""

    Options: ClassVar[type] = DigitOptions

    def __init__(self, options: DigitOptions) -> None:
        self._choices = options.choices

    @property
    def choices(self) -> tuple[int, ...]:
        """How many sizes each layer can have."""
        return self._choices

    def sample(self, rng: Random) -> str:
        """Draw uniformly."""
        return self.decode([rng.randrange(count) for count in self.choices])

    def neighbours(self, arch: str, rng: Random) -> list[str]:
        """Give all that differ in one digit."""
        here = self.encode(arch)
        near = [
            self.decode([*here[:i], other, *here[i + 1 :]])
            for i, count in enumerate(self.choices)
            for other in range(count)
            if other != here[i]
        ]
        rng.shuffle(near)
        return near

    def encode(self, arch: str) -> tuple[int, ...]:
        """Give the digits."""
        digits = tuple(int(part) if part.isdecimal() else -1 for part in arch.split("-"))
        if len(digits) != len(self.choices) or self.decode(digits) != arch:
            raise ValueError(f"{arch!r} is not of this space")
        return digits

    def canonical(self, arch: str) -> str:
        """No two compute the same."""
        self.encode(arch)
        return arch

    def decode(self, choices: Sequence[int]) -> str:
        """Write the digits."""
        if any(not 0 <= digit < count for digit, count in zip(choices, self.choices, strict=True)):
            raise ValueError(f"{list(choices)} is not of this space")
        return "-".join(map(str, choices))

    def build(self, arch: str, channels: int, classes: int) -> "nn.Module":
        """Make a perceptron on mean colours."""
        from torch import nn  # noqa: PLC0415 -- searching needs no torch

        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        width = channels
        for digit in self.encode(arch):
            layers += [nn.Linear(width, digit + 1), nn.ReLU()]
            width = digit + 1
        return nn.Sequential(*layers, nn.Linear(width, classes))


class SpaceConformance:
    """What every search space owes. Subclass it in a test module and set `name` (and `options`).

    A space that is not registered overrides the fixture `space` instead. `side` is the height and width of the
    images that the networks are tried on; `unscored` are those of the default proxies that have no value for its
    networks, as for such without maps.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, object]] = {}
    side: ClassVar[int] = 16
    unscored: ClassVar[Set[str]] = frozenset()

    @pytest.fixture
    def space(self) -> SearchSpace:
        """Make the space as the daemon does."""
        made: SearchSpace = plugins.build("spaces", self.name, self.options, key="space")
        return made

    def test_samples_are_valid_and_reproducible(self, space: SearchSpace) -> None:
        first, again = ([space.sample(rng) for _ in range(50)] for rng in (Random(7), Random(7)))
        assert first == again
        assert len(set(first)) > 1
        for arch in first:
            digits = space.encode(arch)
            assert len(digits) == len(space.choices)
            assert all(0 <= digit < count for digit, count in zip(digits, space.choices, strict=True))

    def test_decode_undoes_encode(self, space: SearchSpace) -> None:
        rng = Random(11)
        for _ in range(50):
            choices = tuple(rng.randrange(count) for count in space.choices)
            arch = space.decode(choices)
            assert space.encode(arch) == choices
            assert space.decode(space.encode(arch)) == arch

    def test_what_stands_for_others_stands_for_itself(self, space: SearchSpace) -> None:
        rng = Random(13)
        for arch in (space.sample(rng) for _ in range(50)):
            standing = space.canonical(arch)
            assert space.decode(space.encode(standing)) == standing
            assert space.canonical(standing) == standing
        with pytest.raises(ValueError, match=r"."):
            space.canonical("no architecture")

    def test_neighbours_are_all_one_change_away(self, space: SearchSpace) -> None:
        arch = space.sample(Random(3))
        near = space.neighbours(arch, Random(5))
        assert len(set(near)) == len(near) == sum(count - 1 for count in space.choices)
        here = space.encode(arch)
        for other in near:
            assert sum(a != b for a, b in zip(here, space.encode(other), strict=True)) == 1
        assert space.neighbours(arch, Random(5)) == near

    @pytest.mark.parametrize("arch", ["", "no architecture", "|", "\N{SNOWMAN}"])
    def test_refuses_what_is_not_of_the_space(self, space: SearchSpace, arch: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            space.encode(arch)

    def test_refuses_a_damaged_architecture(self, space: SearchSpace) -> None:
        arch = space.sample(Random(3))
        for damaged in (arch + arch, " " + arch, arch + "\n"):
            with pytest.raises(ValueError, match=r"."):
                space.encode(damaged)

    @pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 7)])
    def test_networks_classify(self, space: SearchSpace, channels: int, classes: int) -> None:
        import torch  # noqa: PLC0415 -- the other tests show that a space does without

        network = space.build(space.sample(Random(2)), channels, classes)
        logits = network(torch.randn(2, channels, self.side, self.side))
        assert logits.shape == (2, classes)
        assert logits.isfinite().all()

    def test_networks_depend_on_the_generator_alone(self, space: SearchSpace) -> None:
        first, again, other = (self._weights(space, seed) for seed in (1, 1, 2))
        assert first.keys() == again.keys() == other.keys()
        assert all(first[name].equal(again[name]) for name in first)
        assert any(not first[name].equal(other[name]) for name in first)

    def test_networks_can_be_scored(self, space: SearchSpace) -> None:
        """In any order the same. Proxies by blocks need `blocks`, or a chain that has most of the layers."""
        from carbon_nas.evaluate.proxies import TABLE  # noqa: PLC0415

        values = [self._scores(space, names) for names in (list(TABLE), list(TABLE)[::-1])]
        assert values[0] == {name: values[1][name] for name in TABLE}
        unknown = {name for name in AGGREGATE if values[0][name] == "nan"}
        assert unknown == self.unscored, (
            f"of the default proxies {sorted(unknown)} say nothing of the networks"
        )

    def _scores(self, space: SearchSpace, proxies: Sequence[str]) -> dict[str, str]:
        import torch  # noqa: PLC0415

        from carbon_nas.evaluate.scoring import Scorer, noise_batch  # noqa: PLC0415

        batch = noise_batch((3, self.side, self.side), 10, 16, seed=1, device=torch.device("cpu"))
        values = Scorer(space, batch, 10, seed=1).score(space.sample(Random(2)), proxies) or {}
        return {name: str(value) for name, value in values.items()}  # NaN is not equal to itself

    @staticmethod
    def _weights(space: SearchSpace, seed: int) -> dict[str, Any]:
        import torch  # noqa: PLC0415

        torch.manual_seed(seed)
        return space.build(space.sample(Random(2)), 3, 10).state_dict()
