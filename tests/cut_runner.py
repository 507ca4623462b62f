"""Starts runners and cuts each off at a moment that is said: `python tests/cut_runner.py`, JSON lines in and out.

A request is {path, signal, delay, phase, start}: the job's specification, the signal's number, seconds to wait and
the phase to wait for after them (or null), and how to start. "fork" makes a runner of this process, which has
imported torch and marks every phase of a training in a byte that both see; "interpreter" starts a real one as the
executor does, stop signals blocked until it has its handlers, and "unblocked" without that.

The answer is {status, cut, phase, life, seconds, cpu_seconds}: how it ended (negative for a signal), whether it was
cut before, in which phase (at the signal; at death if it was SIGKILL), seconds from its start and from the signal to
its end, and the processor time that it used.
"""

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import time

import torch

from carbon_nas.evaluate import checkpoint, jobs, runner
from carbon_nas.evaluate.signals import STOP_SIGNALS
from carbon_nas.evaluate.train import Training

PHASES = {
    "read data": (jobs, "load_task"),
    "read checkpoint": (checkpoint, "load_newest"),
    "forward": (Training, "_loss"),
    "backward": (torch.autograd, "backward"),
    "optimizer": (torch.optim.SGD, "step"),
    "average": (torch.optim.swa_utils.AveragedModel, "update_parameters"),
    "validation": (Training, "_judge"),
    "write checkpoint": (checkpoint, "save"),
    "sync checkpoint": (checkpoint, "write_atomically"),
}
NAMES = ["elsewhere", *PHASES]
PATIENCE_SECONDS = 120.0

now = mmap.mmap(-1, 1)  # the place in NAMES of what the forked runner does


def mark(number, function):
    """Let `function` note in `now` that it runs."""

    def marked(*args, **kwargs):
        before, now[0] = now[0], number
        try:
            return function(*args, **kwargs)
        finally:
            now[0] = before

    return marked


def fork(path):
    pid = os.fork()
    if pid:
        return pid
    try:
        source, end = os.pipe()
        os.write(end, f"{path}\n".encode())
        os.close(end)
        os.dup2(source, 0)
        os._exit(runner.main())
    finally:
        os._exit(99)


def interpreter(path):
    command = [sys.executable, "-m", "carbon_nas.evaluate.runner"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    process.stdin.write(f"{path}\n".encode())
    process.stdin.close()
    process.returncode = 0  # it is waited for below
    return process.pid


STARTS = {"fork": fork, "interpreter": interpreter, "unblocked": interpreter}


def start(how, path):
    now[0] = 0
    if how == "unblocked":
        return STARTS[how](path)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return STARTS[how](path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ended(process, seconds):
    return bool(select.select([process], [], [], seconds)[0])


def wait_for_phase(process, phase):
    """Wait until the runner is in `phase`; it may end before."""
    while now[0] != phase and not ended(process, 0.0001):
        pass


def cut(pid, request):
    process, born = os.pidfd_open(pid), time.monotonic()
    alone = ended(process, request["delay"])
    if request["phase"] is not None and not alone:
        wait_for_phase(process, NAMES.index(request["phase"]))
    phase, began = now[0], time.monotonic()
    cut_off = not ended(process, 0)
    if cut_off:
        os.kill(pid, request["signal"])
        if not ended(process, PATIENCE_SECONDS):
            os.kill(pid, signal.SIGKILL)
    gone = time.monotonic()
    os.close(process)
    _, status, used = os.wait4(pid, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "cut": cut_off,
        "phase": NAMES[now[0] if request["signal"] == signal.SIGKILL else phase],
        "life": gone - born,
        "seconds": gone - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


def main():
    for number, (owner, name) in enumerate(PHASES.values(), start=1):
        setattr(owner, name, mark(number, getattr(owner, name)))
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first one imports a lot
    for line in sys.stdin:
        request = json.loads(line)
        answer = cut(start(request["start"], request["path"]), request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
