"""The two kinds of job, as a runner does them: score a batch of architectures, or train one."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from carbon_nas import plugins
from carbon_nas.clock import monotonic
from carbon_nas.errors import JobError
from carbon_nas.evaluate import checkpoint, protocol
from carbon_nas.evaluate.attempt import Attempt, Stopwatch
from carbon_nas.evaluate.costing import Costing
from carbon_nas.evaluate.data import Task, load_task
from carbon_nas.evaluate.proxies.flops import flops
from carbon_nas.evaluate.proxies.params import params
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.randomness import seed_everything, stable_seed
from carbon_nas.evaluate.scoring import Scorer, images_batch, study_batch
from carbon_nas.evaluate.settings import ScoreSettings, TaskSettings, TrainSettings
from carbon_nas.evaluate.train import Training, run
from carbon_nas.interfaces import SearchSpace
from carbon_nas.model import Evaluation, JobKind, JobSpec
from carbon_nas.search.sides import require_side

log = logging.getLogger(__name__)


class Workshop:
    """What jobs of one process share: the device made ready, and the data set of the last job."""

    def __init__(self) -> None:
        self._key: tuple[TaskSettings, torch.device] | None = None
        self._task: Task | None = None
        self._scorer_key: object = None
        self._scorer: Scorer | None = None

    def task(self, spec: JobSpec) -> Task:
        """Give the job's data set on its device, read again only if the job before had another."""
        device = prepare_device(spec)
        key = (plugins.check_options(TaskSettings, spec.task, key="task"), device)
        if self._task is None or key != self._key:
            self._task, self._key = load_task(key[0], device), key
        return self._task

    def space(self, spec: JobSpec) -> SearchSpace:
        """Make the job's search space.

        Raises:
            ConfigurationError: no such space, a wrong option, or networks for images of another size than the data's.
        """
        space = build_space(spec)
        side = self.task(spec).side
        require_side(space, side, images="those of the data set", key=f"space.{spec.space}")
        return space

    def scorer(self, spec: JobSpec, settings: ScoreSettings) -> Scorer:
        """Give the job's scorer: that of the job before, with what it knows, if only the architectures differ."""
        task = self.task(spec)
        key = (self._key, spec.space, dict(spec.space_options), settings, spec.seed)
        if self._scorer is None or key != self._scorer_key:
            batch = study_batch(task, settings, spec.seed)
            self._scorer = Scorer(self.space(spec), batch, task.classes, seed=spec.seed)
            self._scorer_key = key
        return self._scorer


def prepare_device(spec: JobSpec) -> torch.device:
    """Set torch's threads and how exactly it computes: on a CPU, and if `train.deterministic`, the same bits each time.

    Raises:
        JobError: torch does not know the device, or there is none.
        ConfigurationError: a wrong setting of `train`.
    """
    settings: TrainSettings = plugins.check_options(TrainSettings, spec.train, key="train")
    try:
        device = torch.device(spec.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise JobError(f"device {spec.device!r} cannot be used: {error}") from error
    torch.set_num_threads(spec.threads)
    exact = device.type == "cpu" or settings.deterministic
    torch.use_deterministic_algorithms(exact)
    torch.backends.cudnn.benchmark = not exact
    return device


def score_job(attempt: Attempt, workshop: Workshop) -> bool:
    """Score each architecture that no attempt has scored yet, and find its cost; say whether all are.

    Raises:
        ConfigurationError: a wrong setting.
        JobError: some cannot be scored; all others are.
    """
    spec = attempt.spec
    settings = plugins.check_options(ScoreSettings, spec.score, key="score")
    with attempt.leaving_at_once():
        scorer = workshop.scorer(spec, settings)
        costing = Costing(spec, workshop.space(spec), workshop.task(spec), scorer)
    known = {evaluation.arch for evaluation in protocol.read_results(spec.directory)}
    failures: list[JobError] = []
    for place, arch in enumerate(spec.archs):
        attempt.report(place / len(spec.archs), step=place)
        if arch in known:
            continue
        watch = Stopwatch()
        try:
            values = scorer.score(arch, settings.proxies, attempt.should_stop)
            if values is None:
                return False
            values[settings.cost.recorded] = costing.find(settings.cost, arch)
        except JobError as error:  # of this one alone
            failures.append(error)
            continue
        known.add(arch)
        attempt.add_result(Evaluation(arch, JobKind.SCORE, values, watch.duration_seconds, watch.cpu_seconds))
    if failures:
        raise JobError(f"{len(failures)} of {len(spec.archs)} architectures cannot be scored: {failures[0]}")
    return True


def train_job(attempt: Attempt, workshop: Workshop) -> bool:
    """Train the one architecture as far as the job goes; say whether it came so far.

    It begins with the job's newest checkpoint, else with that of the job it continues, else anew.

    Raises:
        ConfigurationError: a wrong setting, or networks for images of another size than the data set's.
        JobError: not exactly one architecture, or its training cannot go on.
        CheckpointError: the directory holds another job's checkpoints.
    """
    spec = attempt.spec
    if len(spec.archs) != 1:
        raise JobError(f"a train job has one architecture, this one {len(spec.archs)}")
    if protocol.read_results(spec.directory):
        return True  # an earlier attempt did all, and died before it could say so
    settings = plugins.check_options(TrainSettings, spec.train, key="train")
    arch = spec.archs[0]
    seed = stable_seed(spec.seed, arch, "train")
    with attempt.leaving_at_once():  # seconds may pass: making its first optimizer, torch imports a lot
        task = workshop.task(spec)
        seed_everything(seed)
        network = workshop.space(spec).build(arch, task.planes, task.classes)
        training = Training(network, task, settings, seed, until=spec.epochs)
        host = _TrainingHost(attempt, settings, training)
    if not run(training, host):
        return False
    passes = Passes(training.network, *images_batch(task, 1, seed))
    last = training.curve[-1]
    values = {
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "parameters": params(passes),
        "flops": flops(passes),
        "epochs": float(training.epoch),
    }
    if training.micro_batch < settings.batch_size:  # batch normalisation saw less than it was to see
        values["micro_batch"] = float(training.micro_batch)
    watch = host.watch
    attempt.add_result(Evaluation(arch, JobKind.TRAIN, values, watch.duration_seconds, watch.cpu_seconds))
    return True


JOBS: Mapping[JobKind, Callable[[Attempt, Workshop], bool]] = {
    JobKind.SCORE: score_job,
    JobKind.TRAIN: train_job,
}


def build_space(spec: JobSpec) -> SearchSpace:
    """Make the job's search space.

    Raises:
        ConfigurationError: no such space, or a wrong option.
    """
    space: SearchSpace = plugins.build("spaces", spec.space, spec.space_options, key="space")
    return space


def spec_hash(spec: JobSpec, settings: TrainSettings) -> str:
    """Give a hash of all that a training's result depends on; not of which jobs do it, nor of when it is saved."""
    parts = [
        spec.kind,
        spec.archs,
        spec.space,
        dict(spec.space_options),
        spec.seed,
        plugins.check_options(TaskSettings, spec.task, key="task").dataset,
        settings.model_dump(mode="json", exclude={"checkpoint_seconds", "recipe"}),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _TrainingHost:
    """Runs a training for an attempt: keeps checkpoints, reports, and measures over all attempts."""

    def __init__(self, attempt: Attempt, settings: TrainSettings, training: Training) -> None:
        self._attempt = attempt
        self._folder = attempt.spec.directory / "checkpoints"
        self._spec_hash = spec_hash(attempt.spec, settings)
        self._interval_seconds = settings.checkpoint_seconds
        self._saved_at = monotonic()
        self._epoch_reported = -1
        self.watch = Stopwatch()
        state = checkpoint.load_newest(self._folder, self._spec_hash)
        if state is not None:
            training.load_state_dict(state)
            self.watch = Stopwatch(state["duration_seconds"], state["cpu_seconds"])
        elif attempt.spec.continues is not None:
            self._go_on(training, attempt.spec.continues / "checkpoints")

    def should_stop(self) -> bool:
        return self._attempt.should_stop()

    def save_due(self) -> bool:
        return monotonic() - self._saved_at >= self._interval_seconds

    def save(self, training: Training) -> None:
        self._attempt.require_unfenced()
        state = {
            **training.state_dict(),
            "spec_hash": self._spec_hash,
            "attempt": self._attempt.spec.attempt,
            "duration_seconds": self.watch.duration_seconds,
            "cpu_seconds": self.watch.cpu_seconds,
        }
        checkpoint.save(self._folder, state)
        self._saved_at = monotonic()
        self._report(training)

    def report(self, training: Training) -> None:
        if training.epoch != self._epoch_reported or self._attempt.report_due():
            self._report(training)

    def _go_on(self, training: Training, folder: Path) -> None:
        """Begin where another job ended; what that one measured stays its own."""
        state = checkpoint.load_newest(folder, self._spec_hash)
        if state is None:
            log.warning("no good checkpoint in %s: the training begins anew", folder)
        else:
            training.load_state_dict(state)

    def _report(self, training: Training) -> None:
        self._epoch_reported = training.epoch
        last = training.curve[-1] if training.curve else {}
        began = training.step > training.epoch * training.steps_per_epoch
        self._attempt.report(
            training.fraction,
            step=training.step,
            epoch=training.epoch,
            loss=training.mean_loss() if began else last.get("train_loss"),
            accuracy=last.get("accuracy"),
        )
