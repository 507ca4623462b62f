"""The daemon's present state as the terminal shows it."""

from carbon_nas.daemon import Daemon
from carbon_nas.engine import Running
from carbon_nas.model import JobKind, Slot, Transition
from carbon_nas.serve.terminal import LiveView, SlotView


def live_view(daemon: Daemon, *, elapsed_share: float | None = None) -> LiveView:
    """Give what the terminal shows now."""
    engine, now = daemon.engine, daemon.clock.now()
    running = {run.slot.id: run for run in engine.running.values()}
    return LiveView(
        zone=daemon.config.grid.zone,
        now=now,
        clock_speed=daemon.clock.speed,
        grid=daemon.feed.view(now),
        decision=engine.decision,
        jobs=daemon.store.count_jobs(),
        slots=[_slot(slot, running.get(slot.id)) for slot in daemon.executor.capacity()],
        progress=daemon.searcher.progress(),
        energy_joules=engine.energy_joules,
        emissions_grams=engine.emissions_grams,
        elapsed_share=elapsed_share,
        events=[_event(step) for step in engine.steps],
    )


def _event(step: Transition) -> str:
    why = "" if step.why == step.target else f": {step.why}"
    return f"{step.at:%a %H:%M} {step.job_id} {step.target}{why}"


def _slot(slot: Slot, run: Running | None) -> SlotView:
    if run is None:
        return SlotView(slot.id)
    job = run.job
    what = job.archs[0] if job.kind is JobKind.TRAIN else f"{len(job.archs)} architectures"
    return SlotView(slot.id, job.kind, job.id, "saving, to go on later" if run.asked else what, job.progress)
