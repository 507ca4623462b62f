"""A search that weighs a cost of its user's choice: scored in earnest, promoted, rewarded and reported by it."""

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from cifar_files import make_cifar10
from report_records import make_record
from torchvision.datasets import cifar

from carbon_nas import assembly, cli_search
from carbon_nas import config as configuration
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate import protocol, published
from carbon_nas.evaluate.attempt import Attempt
from carbon_nas.evaluate.jobs import Workshop, score_job
from carbon_nas.evaluate.signals import Lines, StopRequest
from carbon_nas.model import Evaluation, JobKind, JobSpec, JobState, Slot
from carbon_nas.report.build import build_report
from carbon_nas.report.html import render_html
from carbon_nas.search import cost
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options
from carbon_nas.searcher import Searcher
from carbon_nas.state_directory import require_same_study
from carbon_nas.states import transition
from carbon_nas.store.sql import SqlStore

SPACE = NasBench201(NasBench201Options())
START = datetime(2023, 1, 10, tzinfo=UTC)
REFERENCE = 200.0  # g/kWh
DEVICE = "eyeriss"


class Proposer:
    """Behind `AsyncController`: thirty cells in a fixed order."""

    def __init__(self):
        luck = Random(3)
        self.left = [SPACE.sample(luck) for _ in range(30)]
        self.learnt = []

    async def propose(self, n):
        given, self.left = self.left[:n], self.left[n:]
        return given

    async def observe(self, observations):
        self.learnt += observations

    async def state_dict(self):
        return {}

    def cpu_seconds(self):
        return 0.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_cifar10(tmp_path_factory.mktemp("data"))


class World:
    """A study's store, configuration and searcher. Its jobs are done here: scored in earnest, trained by rote."""

    def __init__(self, folder, data, name, stack):
        self.config = configuration.check(
            {
                "task": {"dataset": "cifar10", "data_dir": str(data)},
                "search": {"score_batch": 10, "minimum_pool": 30, "max_scored": 30, "max_trained": 8},
                "score": {"proxies": ["params"], "batch_size": 2, "inference_cost": name},
            }
        )
        self.folder, self.workshop = folder, Workshop()
        self.store = SqlStore(folder / "s.sqlite")
        stack.enter_context(contextlib.closing(self.store))
        self.store.open()
        require_same_study(self.store, self.config)
        self.controller = Proposer()
        self.searcher = Searcher(
            assembly.searcher_settings(self.config),
            clock=SimulatedClock(START),
            store=self.store,
            controller=self.controller,
            reference_grams_per_kwh=lambda: REFERENCE,
        )
        self.searcher.start()

    def search(self):
        for _ in range(40):
            asyncio.run(self.searcher.step(2))
            if self.searcher.study.is_finished:
                break
            for job, _ in self.store.open_jobs():
                running, step = transition(job, JobState.RUNNING, START, "test")
                self.store.move(running, step)
                found = self.score(job) if job.kind is JobKind.SCORE else [trained(job.archs[0])]
                self.store.move(*transition(running, JobState.DONE, START, "test"), found)
        return self

    def score(self, job):
        spec = JobSpec(job.id, job.kind, 1, job.archs, "nasbench201", self.folder / "jobs" / job.id, seed=1)
        score, task = (part.model_dump(mode="json") for part in (self.config.score, self.config.task))
        spec = replace(spec, score=score, task=task)
        protocol.write_spec(spec)
        assert score_job(Attempt(spec, StopRequest(), Lines(-1), 0.0), self.workshop)
        return protocol.read_results(spec.directory)

    def trained(self):
        return [one.arch for _, one in self.store.evaluations(JobKind.TRAIN)]


def trained(arch):
    """Accuracy grows with size; what a training reports is not what the study weighs."""
    size = float(sum("conv" in edge for edge in arch.split("|")))
    values = {"accuracy": 0.5 + size / 20, "loss": 1.0, "parameters": 1e5 * size + 1, "flops": 1e6 * size + 1}
    return Evaluation(arch, JobKind.TRAIN, values, 1.0, 1.0)


@pytest.fixture(scope="module")
def make(tmp_path_factory, data):
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar, "check_integrity", lambda path, md5=None: True)
        yield lambda name: World(tmp_path_factory.mktemp("study"), data, name, stack).search()


@pytest.fixture(scope="module")
def world(make):
    return make(f"latency:{DEVICE}")


def test_the_study_weighs_what_was_published_and_nothing_else(world):
    study = world.searcher.study
    assert study.is_finished
    assert study.costs == {arch: published.latency_seconds(DEVICE, arch) for arch in study.candidates}
    assert {arch: spent for arch, (_, spent) in study.results.items()} == {
        arch: study.costs[arch] for arch in world.trained()
    }
    assert {name for values in study.scores.values() for name in values} == {"params"}, (
        "the cost does not vote"
    )


def test_promotion_reward_and_progress_follow_it(world, make):
    by_flops = make("flops")
    assert set(world.trained()) != set(by_flops.trained())
    assert len(world.trained()) == len(by_flops.trained()) == 8
    costs = world.searcher.study.costs
    reference = max(costs.values())
    assert float(world.store.get_meta("reference_cost")) == reference
    seen = world.controller.learnt
    assert {one.arch: one.inference_cost for one in seen} == {arch: costs[arch] for arch in world.trained()}
    for one in seen:
        assert one.reward == pytest.approx(
            one.quality * max(one.inference_cost / reference, 1e-3) ** -0.07 * 1e-3**-0.07
        )
    assert 0 < world.searcher.progress().hypervolume < 1


def test_the_report_is_of_it(world):
    record = make_record(
        inference_cost=world.config.score.inference_cost, evaluations=tuple(world.store.evaluations())
    )
    report = build_report(record)
    assert {one.arch: one.inference_cost for one in report.search.trainings} == {
        arch: published.latency_seconds(DEVICE, arch) for arch in world.trained()
    }
    page = render_html(report, record)
    assert f"inference cost (ms on {DEVICE}, as published)" in page
    assert "multiply-accumulates" not in page


def test_calibration_is_at_equal_latency(world):
    found = cli_search._calibrated(world.store)
    assert found.cost == f"latency:{DEVICE}"
    assert [one.name for one in found.signals] == ["params", "log-rank sum", "learned predictor"]
    table = cli_search._table(found.signals, cost.named(found.cost).noun)
    assert "equal\nlatency" in [column.header for column in table.columns]
    assert "at equal latency" in cli_search.NOTES.format(cost=cost.named(found.cost).noun)


def test_the_cost_belongs_to_the_study(world):
    other = configuration.check(
        {
            **world.config.model_dump(mode="json", exclude={"clock", "score"}),
            "score": {"proxies": ["params"], "batch_size": 2, "inference_cost": "flops"},
        }
    )
    require_same_study(world.store, world.config)
    with pytest.raises(ConfigurationError, match="inference_cost") as caught:
        require_same_study(world.store, other)
    assert caught.value.key == "score"


def test_latency_is_not_measured_where_it_could_not_be_compared():
    alike = [Slot(f"gpu{n}", "here", "GB", gpu_uuid=f"GPU-{n}", name="NVIDIA A100") for n in range(2)]
    mixed = [*alike, Slot("cpu0", "here", "GB")]
    assembly._require_alike(alike, cost.LATENCY)
    for counted in (cost.FLOPS, cost.named("latency:pixel2")):
        assembly._require_alike(mixed, counted)
    with pytest.raises(ConfigurationError, match="measured on CPU and on NVIDIA A100 cannot") as caught:
        assembly._require_alike(mixed, cost.LATENCY)
    assert caught.value.key == "score.inference_cost"


def test_the_daemon_knows_the_devices_without_torch():
    program = (
        "import sys\nfrom carbon_nas import config\n"
        "try:\n    config.check({'score': {'inference_cost': 'latency:pixel2'}})\n"
        "except Exception as error:\n    print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "score.inference_cost: the published latencies are of images of 32x32" in done.stdout
