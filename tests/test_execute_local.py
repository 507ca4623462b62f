"""The local executor with real runner processes: launched, fed again, suspended, killed, found again."""

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from carbon_nas.clock import monotonic, real_sleep
from carbon_nas.errors import ExecutorError
from carbon_nas.evaluate import protocol
from carbon_nas.execute import gpus, local, processes
from carbon_nas.execute.local import LocalExecutor, LocalOptions
from carbon_nas.model import Handle, JobKind, JobSpec, RunState, Slot
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

PATIENCE_SECONDS = 240.0
SPACE = NasBench201(NasBench201Options())
CELLS = tuple(SPACE.decode(cell) for cell in [(3, 1, 2, 4, 2, 1), (2, 3, 0, 4, 1, 2)])
RUNNING, DONE, SUSPENDED, LOST = RunState.RUNNING, RunState.DONE, RunState.SUSPENDED, RunState.LOST


class Site:
    """One machine: its executors, one after another, and the processes they leave behind."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.made: list[LocalExecutor] = []

    def executor(self, **options):
        chosen = LocalOptions(**{"gpus": "none", "cpu_slots": 1, **options})
        self.made.append(LocalExecutor(chosen, zone="GB", directory=self.folder / "runners"))
        return self.made[-1]

    def score(self, name, **changes):
        spec = JobSpec(name, JobKind.SCORE, 1, CELLS, "nasbench201", self.folder / name, seed=7)
        proxies = {"batch_size": 16, "proxies": ["params", "flops"]}
        return replace(spec, space_options={"channels": 2, "cells": 1}, score=proxies, **changes)

    def train(self, name, *, epochs=1, **changes):
        settings = {"epochs": epochs, "batch_size": 100, "checkpoint_seconds": 0}
        spec = JobSpec(name, JobKind.TRAIN, 1, CELLS[:1], "nasbench201", self.folder / name, seed=7)
        return replace(spec, space_options={"channels": 2, "cells": 1}, train=settings, **changes)

    def end(self):
        """End what still runs, and reap it."""
        for executor in self.made:
            kept = [runner.process for runner in executor._runners.values()]
            for process in [*kept, *executor._leaving]:
                process.kill()
                process.wait()
                with contextlib.suppress(BrokenPipeError):  # a job that the dead runner never read
                    process.stdin.close()


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.end()


async def wait_for(executor, handle, condition):
    """Poll until the condition holds; the time used never falls on the way."""
    limit, used = monotonic() + PATIENCE_SECONDS, 0.0
    while True:
        status = await executor.poll(handle)
        assert status.cpu_seconds >= used
        used = status.cpu_seconds
        if condition(status):
            return status
        assert monotonic() < limit, status
        await real_sleep(0.01)


async def end_of(executor, handle):
    return await wait_for(executor, handle, lambda status: status.state is not RUNNING)


async def gone(pid, started):
    limit = monotonic() + PATIENCE_SECONDS
    while processes.is_alive(pid, started):
        assert monotonic() < limit
        await real_sleep(0.01)


def reread(handle: Handle) -> Handle:
    """The handle as the store gives it back: through JSON."""
    return Handle(**json.loads(json.dumps(asdict(handle))))


def environment_of(pid):
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.partition("=")[::2] for entry in entries if entry)


SECRETS = {
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "WATCHDOG_USEC": "1",
    "CREDENTIALS_DIRECTORY": "/run/credentials/carbon-nas.service",
    "CARBON_NAS_GRID__ELECTRICITY_MAPS__TOKEN": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def test_one_warm_process_does_job_after_job_and_leaves_when_it_lingers(site, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    async def live():
        executor = site.executor(linger_seconds=3600.0)
        [slot] = executor.capacity()
        one, two = site.score("one"), site.train("two")
        first = await executor.launch(one, slot)
        assert await executor.launch(one, slot) == first, "launching is idempotent"
        with pytest.raises(ExecutorError, match="slot cpu0 still runs job one"):
            await executor.launch(two, slot)
        pid, started = first.data["pid"], first.data["started"]
        status = await end_of(executor, first)
        assert (status.state, status.progress, status.reason) == (DONE, 1.0, "done")
        assert [found.arch for found in status.evaluations] == list(CELLS)
        assert status.cpu_seconds > 0.3, "the start of Python and torch is the first job's"

        environment = environment_of(pid)
        assert not SECRETS.keys() & environment.keys()
        assert (environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]) == ("", "1")
        await executor.release(slot)  # it may linger for an hour
        second = await executor.launch(two, slot)
        assert second.data["pid"] == pid
        trained = await end_of(executor, second)
        assert trained.state is DONE
        assert trained.evaluations[0].values["accuracy"] > 0
        assert 0 < trained.cpu_seconds < processes.cpu_seconds(pid)
        assert (await executor.poll(first)).evaluations == status.evaluations

        executor._options = replace(executor._options, linger_seconds=0.0)
        await executor.release(slot)
        await gone(pid, started)
        await executor.release(slot)
        assert executor._leaving == [], "it is reaped"
        await executor.close()

    asyncio.run(live())


def test_a_suspended_training_goes_on_under_the_next_executor_as_an_orphan_and_to_its_end(site):
    async def live():
        spec = site.train("job", epochs=2)
        old = site.executor()
        [slot] = old.capacity()
        handle = reread(await old.launch(spec, slot))
        await wait_for(old, handle, lambda status: status.progress > 0)

        new = site.executor()  # the daemon was killed; nothing but the handle is left
        await new.reattach([handle])
        seen = await new.poll(handle)
        assert seen.state is RUNNING
        assert seen.cpu_seconds > 0
        await new.request_suspend(handle)
        await new.request_suspend(handle)
        status = await end_of(new, handle)
        assert (status.state, status.reason) == (SUSPENDED, "asked to stop")
        assert 0 < status.progress < 1
        await gone(handle.data["pid"], handle.data["started"])
        assert (await end_of(old, handle)).state is SUSPENDED
        assert old._runners == {}, "whoever is told to leave is not kept warm"

        again = await new.launch(replace(spec, attempt=2), slot)
        assert again.data["pid"] != handle.data["pid"]
        begun = await wait_for(new, again, lambda status: status.progress > 0)
        assert begun.progress >= status.progress, "it goes on where it stopped"
        await new.close()  # the daemon stops; the runner finishes its job by itself
        last = site.executor()
        await last.reattach([reread(again)])
        finished = await end_of(last, again)
        assert finished.state is DONE
        assert [found.arch for found in finished.evaluations] == list(CELLS[:1])
        await gone(again.data["pid"], again.data["started"])

    asyncio.run(live())


def test_a_killed_runner_is_lost_and_its_slot_is_free_for_a_new_one(site):
    async def live():
        spec = site.train("job", epochs=50)
        executor = site.executor()
        [slot] = executor.capacity()
        handle = await executor.launch(spec, slot)
        before = await wait_for(executor, handle, lambda status: status.progress > 0)
        await executor.kill(handle)
        status = await end_of(executor, handle)
        assert (status.state, status.reason) == (LOST, "the runner is gone without a word")
        assert status.progress >= before.progress
        again = await executor.poll(handle)
        assert (again.state, again.cpu_seconds) == (LOST, status.cpu_seconds), "and so it stays"
        await executor.kill(handle)  # nobody is there: no error
        await executor.request_suspend(handle)

        idle = await executor.launch(site.score("next"), slot)
        assert (await end_of(executor, idle)).state is DONE
        os.kill(idle.data["pid"], signal.SIGKILL)  # the warm runner, while it waits for a job
        await gone(idle.data["pid"], idle.data["started"])
        other = await executor.launch(site.score("other"), slot)
        assert other.data["pid"] != idle.data["pid"]
        assert (await end_of(executor, other)).state is DONE
        await executor.close()
        await gone(other.data["pid"], other.data["started"])

    asyncio.run(live())


# --- without a runner


def test_the_slots_of_a_machine_without_a_gpu(site, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(7)))
    for options, count in (({}, 7), ({"threads_per_slot": 3}, 2), ({"threads_per_slot": 9}, 1)):
        slots = site.executor(cpu_slots=None, **options).capacity()
        assert [slot.id for slot in slots] == [f"cpu{n}" for n in range(count)]
        assert {(slot.zone, slot.gpu_uuid, slot.node) for slot in slots} == {
            ("GB", None, os.uname().nodename)
        }


def test_gpus_are_the_slots_where_there_are_some(site, monkeypatch):
    found = [gpus.Gpu("GPU-a", "Board A"), gpus.Gpu("GPU-b", "Board B")]
    monkeypatch.setattr(local.gpus, "list_gpus", lambda: found)
    slots = site.executor(gpus="all", cpu_slots=None).capacity()
    assert [(slot.id, slot.gpu_uuid, slot.name) for slot in slots] == [
        ("gpu0", "GPU-a", "Board A"),
        ("gpu1", "GPU-b", "Board B"),
    ]
    both = site.executor(gpus="all", cpu_slots=1).capacity()
    assert [slot.id for slot in both] == ["gpu0", "gpu1", "cpu0"]
    assert [slot.id for slot in site.executor(gpus="none", cpu_slots=2).capacity()] == ["cpu0", "cpu1"]
    runs_on = site.executor(gpus="all")._environment(slots[1])
    assert runs_on["CUDA_VISIBLE_DEVICES"] == "GPU-b"


def test_a_machine_without_slots_is_an_error(site):
    with pytest.raises(ExecutorError, match="no slot"):
        site.executor(cpu_slots=0).capacity()


def test_a_pid_that_now_belongs_to_another_is_left_alone(site):
    """The handle's process is gone and its pid is ours now: we are neither asked to leave nor killed."""

    async def live():
        spec = site.score("job")
        protocol.write_spec(spec)
        data = {"pid": os.getpid(), "started": 1, "directory": str(spec.directory), "base_cpu_seconds": 0.0}
        handle = Handle("job", 1, "cpu0", data)
        executor = site.executor()
        await executor.request_suspend(handle)
        await executor.kill(handle)
        status = await executor.poll(handle)
        assert (status.state, status.cpu_seconds) == (LOST, 0.0)

    asyncio.run(live())


def test_a_runner_that_cannot_start_is_an_executor_error(site, monkeypatch):
    monkeypatch.setattr(local.sys, "executable", "/bin/false")

    async def launch_often(executor):
        for attempt in range(1, 50):  # it may take a job before it is seen to be gone
            handle = await executor.launch(site.score("job", attempt=attempt), Slot("cpu0", "here", "GB"))
            assert (await end_of(executor, handle)).state is LOST

    with pytest.raises(ExecutorError, match=r"left at once; see .*cpu0\.log"):
        asyncio.run(launch_often(site.executor()))


def test_processes_are_told_by_pid_and_start():
    pid = os.getpid()
    started = processes.start_ticks(pid)
    assert processes.is_alive(pid, started)
    assert not processes.is_alive(pid, started + 1)
    assert not processes.send(pid, started + 1, signal.SIGKILL)
    assert processes.cpu_seconds(pid) > 0
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert processes.start_ticks(child) is None, "a zombie is not alive"
    assert processes.cpu_seconds(child) is not None, "but still tells what it used"
    os.waitpid(child, 0)
    assert processes.cpu_seconds(child) is None
