"""The suite for search controllers."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from random import Random
from typing import ClassVar

import pytest

from carbon_nas import plugins
from carbon_nas.interfaces import Controller, SearchSpace
from carbon_nas.model import Observation
from carbon_nas.testing.spaces import DigitSpace

Factory = Callable[[int], Controller]
"""Makes a new controller from a seed."""

_IMPORT = """
import sys
from carbon_nas import plugins
plugins.load("controllers", sys.argv[1], key="controller")
assert "torch" not in sys.modules, "importing the controller's class imports torch"
"""


def observed(arch: str, reward: float) -> Observation:
    """Give what a controller would be told of a training that earned `reward`."""
    return Observation(
        arch, quality=reward, inference_cost=1e6, energy_joules=3.6e6, emissions_grams=100.0, reward=reward
    )


class ControllerConformance:
    """What every controller owes. Subclass it in a test module and set `name` (and `options`).

    A controller that searches only some spaces overrides the fixture `space`.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, object]] = {}

    @pytest.fixture
    def space(self) -> SearchSpace:
        """Give a space of 5^6 architectures."""
        return DigitSpace(DigitSpace.Options())

    @pytest.fixture
    def make(self, space: SearchSpace) -> Factory:
        """Make controllers as the daemon does."""

        def factory(seed: int) -> Controller:
            made: Controller = plugins.build(
                "controllers", self.name, self.options, key="controller", space=space, seed=seed
            )
            return made

        return factory

    def test_its_class_can_be_loaded_without_torch(self) -> None:
        subprocess.run([sys.executable, "-c", _IMPORT, self.name], check=True)

    def test_proposes_from_the_space_before_it_has_seen_anything(
        self, make: Factory, space: SearchSpace
    ) -> None:
        archs = make(1).propose(20)
        assert 1 <= len(archs) <= 20
        assert all(space.decode(space.encode(arch)) == arch for arch in archs)
        assert make(1).propose(0) == []

    def test_the_seed_decides(self, make: Factory) -> None:
        assert make(1).propose(20) == make(1).propose(20)
        assert make(1).propose(20) != make(2).propose(20)

    def test_goes_on_proposing(self, make: Factory) -> None:
        controller = make(1)
        assert len({arch for _ in range(10) for arch in controller.propose(5)}) > 5

    def test_learning_is_reproducible(self, make: Factory, space: SearchSpace) -> None:
        assert _search(make(1), space, 8) == _search(make(1), space, 8)

    @pytest.mark.parametrize("steps", [0, 1, 3, 8])
    def test_a_saved_state_goes_on_as_if_nothing_had_happened(
        self, make: Factory, space: SearchSpace, steps: int
    ) -> None:
        original = make(1)
        _search(original, space, steps)
        saved = json.loads(json.dumps(original.state_dict(), allow_nan=False))
        revived = make(99)  # even its seed comes from the state
        revived.load_state_dict(saved)
        assert _search(revived, space, 6) == _search(original, space, 6)

    def test_a_state_is_a_snapshot(self, make: Factory, space: SearchSpace) -> None:
        controller = make(1)
        before = controller.state_dict()
        text = json.dumps(before)
        _search(controller, space, 6)
        assert json.dumps(before) == text

    def test_learns_from_architectures_of_others(self, make: Factory, space: SearchSpace) -> None:
        controller, rng = make(1), Random(5)
        controller.observe([observed(space.sample(rng), rng.random()) for _ in range(30)])
        controller.observe([])
        assert len(controller.propose(5)) >= 1

    def test_bears_equal_and_zero_rewards(self, make: Factory, space: SearchSpace) -> None:
        controller, rng = make(1), Random(5)
        for reward in (0.0, 0.0, 1.0):
            controller.observe([observed(space.sample(rng), reward) for _ in range(12)])
            assert all(space.encode(arch) for arch in controller.propose(5))


def _search(controller: Controller, space: SearchSpace, steps: int) -> list[str]:
    """Propose three at a time and reward late options; give all proposals."""
    seen: list[str] = []
    for _ in range(steps):
        archs = controller.propose(3)
        controller.observe([observed(arch, sum(space.encode(arch)) / sum(space.choices)) for arch in archs])
        seen += archs
    return seen
