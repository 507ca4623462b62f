"""`carbon-nas` that kills itself with SIGKILL at a chosen call: `daemon_crashing.py WHERE run --config ...`.

WHERE is `before:N:module:Class.method` or `after:...`, the N-th call of it, from 1. The rest is the real program.
"""

import os
import signal
import sys
from functools import wraps
from importlib import import_module
from inspect import iscoroutinefunction
from itertools import count


def main() -> None:
    moment, nth, module, path = sys.argv.pop(1).split(":")
    class_name, name = path.split(".")
    owner = getattr(import_module(module), class_name)
    setattr(owner, name, mined(getattr(owner, name), moment, int(nth)))
    from carbon_nas.cli import main as run

    run()


def mined(function, moment, nth):
    calls = count(1)

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    @wraps(function)
    async def later(*arguments, **named):
        mine = next(calls) == nth
        if mine and moment == "before":
            die()
        found = await function(*arguments, **named)
        if mine:
            die()
        return found

    @wraps(function)
    def now(*arguments, **named):
        mine = next(calls) == nth
        if mine and moment == "before":
            die()
        found = function(*arguments, **named)
        if mine:
            die()
        return found

    return later if iscoroutinefunction(function) else now


if __name__ == "__main__":
    main()
