"""Hosts one controller in a process of its own: `python -m carbon_nas.search.worker`.

Reads one JSON request per line from standard input, `{"id": 1, "call": "propose", "given": 4}`, and answers
each in order on standard output, `{"id": 1, "value": [...]}` or `{"id": 1, "error": "..."}`. The first request
is `start`; `calls` lists the others. Whatever else is printed goes to standard error, and so does the log. The
end of the input ends the process: it never outlives its parent.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from carbon_nas import plugins
from carbon_nas.errors import SearchError
from carbon_nas.interfaces import Controller
from carbon_nas.model import Observation

log = logging.getLogger("carbon_nas.search.worker")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a controller is made of; all JSON. Errors name `<key>.controller` and `<key>.space`."""

    name: str
    options: Mapping[str, object]
    space: str
    space_options: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    key: str = "search"

    def build(self) -> Controller:
        """Make the controller and its space, by their registered names.

        Raises:
            ConfigurationError: a name or an option is wrong.
        """
        space = plugins.build("spaces", self.space, self.space_options, key=f"{self.key}.space")
        made: Controller = plugins.build(
            "controllers", self.name, self.options, key=f"{self.key}.controller", space=space, seed=self.seed
        )
        return made

    @property
    def isolated(self) -> bool:
        """Whether the controller needs a process of its own. Checks names and options without making anything.

        Raises:
            ConfigurationError: as `build`.
        """
        space = plugins.load("spaces", self.space, key=f"{self.key}.space")
        plugins.check_options(space.Options, self.space_options, key=f"{self.key}.space.{self.space}")
        controller = plugins.load("controllers", self.name, key=f"{self.key}.controller")
        plugins.check_options(controller.Options, self.options, key=f"{self.key}.controller.{self.name}")
        return bool(controller.isolated)


def start(recipe: Recipe, state: Mapping[str, Any] | None) -> Controller:
    """Make the controller and put it where `state` was taken."""
    controller = recipe.build()
    if state is not None:
        controller.load_state_dict(state)
    return controller


def proposals(controller: Controller, n: int) -> list[str]:
    """Ask for architectures.

    Raises:
        SearchError: the answer is something else.
    """
    archs: object = controller.propose(n)
    if not isinstance(archs, list) or not all(isinstance(arch, str) for arch in archs):
        raise SearchError(f"it proposed {archs!r:.200}, not a list of architectures")
    return archs


def calls(controller: Controller) -> dict[str, Callable[[Any], Any]]:
    """Give what can be asked of a controller, each a function of the request's `given`."""
    return {
        "propose": lambda n: proposals(controller, n),
        "observe": lambda given: controller.observe([Observation(**one) for one in given]),
        "state_dict": lambda _: controller.state_dict(),
    }


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until their end. A controller's exception is an answer, too."""
    table: dict[str, Callable[[Any], Any]] = {}
    for line in requests:
        request = json.loads(line)
        try:
            if request["call"] == "start":
                given = request["given"]
                table, value = calls(start(Recipe(**given["recipe"]), given["state"])), None
            else:
                value = table[request["call"]](request["given"])
            answer = {"id": request["id"], "value": value}
        except Exception as error:
            log.exception("%s failed", request["call"])
            answer = {"id": request["id"], "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Serve the process's own pipes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which then closes our input
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # a library that prints must not garble the answers
        try:
            serve(sys.stdin, answers)
        except BrokenPipeError:
            log.warning("the parent has gone")
            os._exit(0)  # closing `answers` would raise once more


if __name__ == "__main__":
    main()
