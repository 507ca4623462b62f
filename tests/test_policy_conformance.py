"""The built-in policies against the suite that ships for everybody's."""

from typing import ClassVar

import pytest

from carbon_nas import plugins
from carbon_nas.interfaces import Policy
from carbon_nas.testing.policies import PolicyConformance


class BuiltIn(PolicyConformance):
    __test__ = False
    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.__test__ = True

    @pytest.fixture
    def policy(self) -> Policy:
        return plugins.build("policies", self.name, {}, key="policy")


class TestAlways(BuiltIn):
    name = "always"


class TestThreshold(BuiltIn):
    name = "threshold"


class TestPercentile(BuiltIn):
    name = "percentile"


def test_every_policy_of_ours_is_put_to_the_suite() -> None:
    ours = {
        name
        for name, point in plugins.registered("policies").items()
        if point.value.startswith("carbon_nas_policies.")
    }
    assert ours == {suite.name for suite in BuiltIn.__subclasses__()}
