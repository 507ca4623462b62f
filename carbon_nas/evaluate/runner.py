"""The runner process: `python -m carbon_nas.evaluate.runner`. Here alone, and below, torch is imported.

It reads paths of job specifications from its standard input, one a line, does each job in turn, and waits for
the next: Python and torch start once for many jobs. Send the next path after the outcome of the job before.
See `protocol` for the files in the job's directory. How it ends:

    0    end of input, after the current job
    75   asked to stop (SIGTERM or SIGABRT): what it had in hand is saved, and its outcome is "suspended"
    70   another attempt has taken over the job; nothing more was written
    1    the GPU is in an error state; the job's outcome is "failed"
"""

import logging
import os
import sys

from carbon_nas.evaluate.signals import Lines, StopRequest


def main() -> int:
    """Serve jobs until the input ends or a signal comes; give the exit status."""
    stop = StopRequest()
    stop.install()  # before all that takes time: a signal may come at any
    from carbon_nas.evaluate.attempt import leave_unstarted  # noqa: PLC0415

    lines = Lines(sys.stdin.fileno())
    with stop.leaving_at_once(lambda: leave_unstarted(lines, stop)):  # importing torch takes seconds
        from carbon_nas.evaluate.service import serve  # noqa: PLC0415

    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    return serve(lines, stop)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # all is on disk; to take torch down in order would cost half a CPU second each time
