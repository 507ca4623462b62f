"""The built-in spaces and controllers pass the suites that we ship, and none is forgotten."""

from typing import ClassVar

import pytest
from search_threads import one_thread  # noqa: F401 -- autouse

from carbon_nas import plugins
from carbon_nas.testing.controllers import ControllerConformance
from carbon_nas.testing.spaces import DigitSpace, SpaceConformance


class TestRandomSearch(ControllerConformance):
    name = "random"


class TestReinforce(ControllerConformance):
    name = "reinforce"


class TestReinforceOneAtATime(ControllerConformance):
    name = "reinforce"
    options: ClassVar = {"batch": 1, "hidden_units": 8, "exploration": 0.0}


class TestNasBench201(SpaceConformance):
    name = "nasbench201"
    options: ClassVar = {"channels": 4, "cells": 1}


class TestMobile(SpaceConformance):
    name = "mobile"
    options: ClassVar = {"width_multiplier": 0.1, "depth_multiplier": 0.5}
    side = 32


class TestDigitSpace(SpaceConformance):
    name = "the suite's own, not registered"
    unscored: ClassVar = {"meco", "swap", "az_progressivity", "az_trainability", "norm_preservation"}

    @pytest.fixture
    def space(self) -> DigitSpace:
        return DigitSpace(DigitSpace.Options((2, 3, 4)))


@pytest.mark.parametrize(
    ("group", "suite"), [("spaces", SpaceConformance), ("controllers", ControllerConformance)]
)
def test_every_registered_part_of_ours_is_tested(group: str, suite: type) -> None:
    ours = {name for name, point in plugins.registered(group).items() if point.dist.name == "carbon-nas"}
    assert ours
    assert ours <= {cls.name for cls in suite.__subclasses__() if cls.__module__ == __name__}
