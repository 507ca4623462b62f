"""Trainings that pause at rungs, in the real daemon with real runners, one of whose lives ends by kill -9."""

import json
from collections import Counter

import pytest
from daemon_accounts import require_whole
from daemon_process import SMALL, cli, daemons, reading

from carbon_nas import record
from carbon_nas.errors import StoreError
from carbon_nas.evaluate import checkpoint, protocol
from carbon_nas.evaluate.export import restore
from carbon_nas.model import JobKind
from carbon_nas.model_export import choose
from carbon_nas.report import build_report

RUNGS = {
    "fidelity": {"minimum_epochs": 1, "reduction_factor": 2},
    "search": {"max_trained": 4},
    "train": {"epochs": 3},
}
FIDELITIES = {1: 4, 2: 2, 3: 1}
"""How many come how far."""


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The state directory of such a search that has ended. Its daemon was killed when a training had just gone on."""
    with daemons(tmp_path_factory.mktemp("rungs")) as start:
        first = start(**RUNGS)
        further = "select id from jobs where continues is not null and state = 'running'"
        first.wait_until(lambda: first.query(further), "training that goes on")
        first.kill()
        second = start(**RUNGS)
        second.wait_until(lambda: second.trained() == sum(FIDELITIES.values()), "end of the last training")
        second.terminate()
        yield second.state


def trainings(state):
    with reading(state) as store:
        return [job for job in store.jobs() if job.kind is JobKind.TRAIN]


def test_each_goes_on_from_the_checkpoint_of_the_one_before(state):
    require_whole(state, trained=sum(FIDELITIES.values()))
    jobs = {job.id: job for job in trainings(state)}
    assert Counter(job.epochs for job in jobs.values()) == FIDELITIES
    for job in jobs.values():
        folder = state / "jobs" / job.id
        spec = protocol.read_spec(folder / f"spec-{job.attempt}.json")
        lines = map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
        told = [line["step"] for line in lines if line["step"]]
        if job.continues is None:
            assert (job.epochs, spec.continues) == (1, None)
            continue
        before = jobs[job.continues]
        assert (before.archs, before.epochs) == (job.archs, job.epochs - 1)
        manifest, _ = checkpoint.read(checkpoint.manifests(spec.continues / "checkpoints")[0])
        assert manifest.epoch == before.epochs
        assert told[0] >= manifest.step, "no epoch is trained twice"


def test_status_and_report_tell_who_paused_and_the_best_is_trained_to_the_end(state, tmp_path):
    [last] = [job for job in trainings(state) if job.epochs == SMALL["train"]["epochs"]]
    status = json.loads(cli("status", "--state-dir", state, "--json").stdout)
    assert (status["trained"], status["paused"], status["best_arch"]) == (1, 3, last.archs[0])
    written = cli("report", "--state-dir", state, "--out", tmp_path / "report")
    assert written.returncode == 0, written.stderr
    search = json.loads((tmp_path / "report" / "report.json").read_text())["search"]
    assert (search["trained"], search["paused"], search["best_arch"]) == (1, 3, last.archs[0])
    best, *others = search["trainings"]
    assert len(best["earlier_jobs"]) == 2
    with reading(state) as store:
        energy = store.energy_by_job()
    grams = sum(energy[job][1] for job in [*best["earlier_jobs"], best["job_id"]])
    assert best["emissions_grams"] == pytest.approx(grams)
    assert [one["paused"] for one in others] == [True] * 3


def test_what_is_exported_is_the_one_trained_to_the_end(state):
    with reading(state) as store:
        found = build_report(record.load(store)).search.trainings
    best = choose(found, "best")
    paused = choose(found, next(one.arch for one in found if one.paused))
    for training, epochs in ((best, 3), (paused, paused.epochs)):
        model = restore(state / "jobs" / training.job_id, accuracy=training.accuracy)
        assert (model.spec.epochs, model.spec.archs) == (epochs, (training.arch,))
    with pytest.raises(StoreError, match="no training has finished"):
        choose([one for one in found if one.paused], "best")
