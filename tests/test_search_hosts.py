"""Controllers in real child processes: the same answers as at home, through kills and garbage."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest
from search_threads import one_thread  # noqa: F401 -- autouse

from carbon_nas import plugins
from carbon_nas.clock import real_sleep
from carbon_nas.errors import ConfigurationError, SearchError
from carbon_nas.search.child import ChildController
from carbon_nas.search.hosts import AsyncController, LocalController, make_controller
from carbon_nas.search.worker import Recipe
from carbon_nas.testing.controllers import observed

SMALL = {"hidden_units": 8, "batch": 2}
RECIPE = Recipe("reinforce", SMALL, "nasbench201", {"channels": 4, "cells": 1}, seed=3)
LIGHT = Recipe("random", {}, "nasbench201", seed=3)
SPACE = plugins.build("spaces", "nasbench201", {}, key="space")


def rewards(step: int) -> list[Any]:
    rng = Random(step)
    return [observed(SPACE.sample(rng), rng.random()) for _ in range(3)]


async def steps(controller: AsyncController, first: int, last: int) -> list[str]:
    seen = []
    for step in range(first, last):
        seen += await controller.propose(2)
        await controller.observe(rewards(step))
    return seen


def at_home(count: int) -> list[str]:
    """Do the same steps with the controller in this very process."""
    controller, seen = RECIPE.build(), []
    for step in range(count):
        seen += controller.propose(2)
        controller.observe(rewards(step))
    return seen


def with_child(
    story: Callable[[ChildController], Coroutine[Any, Any, None]], recipe: Recipe = RECIPE, **settings: float
) -> None:
    async def told() -> None:
        child = ChildController(recipe, **settings)
        try:
            await story(child)
        finally:
            await child.close()
        assert child.pid is None

    asyncio.run(told())


def kill(child: ChildController) -> None:
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)


def test_a_child_answers_as_the_controller_does() -> None:
    async def story(child: ChildController) -> None:
        await child.start()
        assert await steps(child, 0, 4) == at_home(4)
        assert child.cpu_seconds() > 0.1  # it has imported torch

    with_child(story)


def test_a_killed_child_is_replaced_where_it_was() -> None:
    async def story(child: ChildController) -> None:
        await child.start()
        seen = await steps(child, 0, 2)
        await child.state_dict()
        seen += await steps(child, 2, 3)  # after the last state seen
        spent, pid = child.cpu_seconds(), child.pid
        kill(child)
        with pytest.raises(SearchError, match="process of controller reinforce failed at propose"):
            await child.propose(2)
        assert child.pid is None
        assert child.cpu_seconds() >= spent
        seen += await steps(child, 3, 5)
        assert child.pid not in {None, pid}
        assert child.cpu_seconds() > spent
        assert seen == at_home(5)

    with_child(story)


def test_a_state_goes_on_in_another_child() -> None:
    async def story(child: ChildController) -> None:
        await child.start()
        seen = await steps(child, 0, 3)
        saved = json.loads(json.dumps(await child.state_dict()))
        await steps(child, 3, 4)  # lost, as in a daemon that crashes now
        await child.start(saved)
        assert seen + await steps(child, 3, 5) == at_home(5)

    with_child(story)


def test_a_failing_call_has_not_happened() -> None:
    async def story(child: ChildController) -> None:
        await child.start()
        seen = await steps(child, 0, 2)
        with pytest.raises(SearchError, match="failed at observe: ValueError"):
            await child.observe([*rewards(7), observed("of no space", 0.5)])
        assert seen + await steps(child, 2, 4) == at_home(4)

    with_child(story)


def test_callers_take_turns() -> None:
    async def story(child: ChildController) -> None:
        await child.start()
        parts = await asyncio.gather(*(child.propose(2) for _ in range(5)))
        assert [arch for part in parts for arch in part] == LIGHT.build().propose(10)

    with_child(story, LIGHT)


def test_a_cancelled_call_does_not_shift_the_answers() -> None:
    async def story(child: ChildController) -> None:
        await child.start()
        sent = child._requests
        call = asyncio.create_task(child.propose(4))
        while child._requests == sent:
            await real_sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await child.propose(2) == LIGHT.build().propose(2)

    with_child(story, LIGHT)


def test_a_child_that_does_not_answer_in_time_is_ended() -> None:
    async def story(child: ChildController) -> None:
        with pytest.raises(SearchError, match="TimeoutError"):
            await child.start()
        assert child.pid is None

    with_child(story, timeout_seconds=0.001)


GARBAGE = {
    "no JSON": "print('hello')",
    "no object": "print('[1]')",
    "the answer to another request": 'print(\'{"id": 77, "value": []}\')',
    "nothing": "pass",
}


@pytest.mark.parametrize("program", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused(program: str) -> None:
    async def story(child: ChildController) -> None:
        with pytest.raises(SearchError, match="process of controller random failed at start"):
            await child.start()
        assert child.pid is None

    async def told() -> None:
        await story(ChildController(LIGHT, command=(sys.executable, "-c", f"input(); {program}")))

    asyncio.run(told())


class Worker:
    """A bare worker process, spoken to over its pipes."""

    def __enter__(self) -> "Worker":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "carbon_nas.search.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        recipe = {"name": "random", "options": {}, "space": "nasbench201"}
        assert self.ask(1, "start", {"recipe": recipe, "state": None}) == {"id": 1, "value": None}
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, number: int, call: str, given: object) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"id": number, "call": call, "given": given}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def test_a_worker_ends_with_its_input() -> None:
    with Worker() as worker:
        worker.process.communicate(timeout=20)
        assert worker.process.returncode == 0


def test_a_worker_leaves_ctrl_c_to_the_daemon() -> None:
    with Worker() as worker:
        worker.process.send_signal(signal.SIGINT)
        assert len(worker.ask(2, "propose", 3)["value"]) == 3


def test_a_worker_reports_errors_and_lives_on() -> None:
    with Worker() as worker:
        assert "KeyError" in worker.ask(2, "dance", None)["error"]
        assert "of no space" not in worker.ask(3, "propose", 1)["value"]


def test_a_worker_whose_parent_is_gone_ends() -> None:
    program = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-m', 'carbon_nas.search.worker'], stdin=subprocess.PIPE); "
        "print(p.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.communicate(timeout=20)  # returns when the grandchild, too, has let go of standard error
    assert parent.returncode == -signal.SIGKILL


def test_the_host_follows_from_the_class() -> None:
    light = make_controller("random", {}, "nasbench201", {}, 1)
    heavy = make_controller("reinforce", SMALL, "nasbench201", {}, 1)
    assert isinstance(light, LocalController)
    assert isinstance(heavy, ChildController)

    async def story() -> list[str]:
        await light.start()
        first = await light.propose(3)
        state = await light.state_dict()
        rest = await light.propose(3)
        await light.start(state)
        assert await light.propose(3) == rest
        await light.observe([observed(first[0], 0.5)])
        await light.close()
        assert light.cpu_seconds() == 0.0
        return first + rest

    assert asyncio.run(story()) == Recipe("random", {}, "nasbench201", seed=1).build().propose(6)


def test_the_daemon_stays_without_torch() -> None:
    program = """
import asyncio, sys
from carbon_nas.search.hosts import make_controller

async def search():
    controller = make_controller("reinforce", {"hidden_units": 8}, "nasbench201", {}, 1)
    await controller.start()
    assert len(await controller.propose(3)) == 3
    await controller.close()

asyncio.run(search())
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("reinforc", {}, "nasbench201", {}),
            r"search\.controller: none of the controllers .* mean 'reinforce'",
        ),
        (("reinforce", {"bach": 3}, "nasbench201", {}), r"controller\.reinforce\.bach: .* mean 'batch'"),
        (("reinforce", {"batch": 0}, "nasbench201", {}), r"controller\.reinforce: .*at least 1"),
        (("reinforce", {"batch": "x"}, "nasbench201", {}), r"controller\.reinforce\.batch: .*'x'"),
        (("random", {"x": 1}, "nasbench201", {}), r"controller\.random\.x: unknown key"),
        (("random", {}, "nasbench", {}), r"search\.space: none of the spaces .* mean 'nasbench201'"),
        (("random", {}, "nasbench201", {"cells": "many"}), r"space\.nasbench201\.cells"),
    ],
)
def test_a_wrong_configuration_is_named_at_once(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make_controller(*arguments, 1)
