"""Recipes, the schedule, the moving average, the alternating flip, and trainings that go wrong."""

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carbon_nas.errors import JobError
from carbon_nas.evaluate import checkpoint, jobs, protocol
from carbon_nas.evaluate.attempt import Attempt
from carbon_nas.evaluate.data import ImageSet, alternating_flips, augment, load_task
from carbon_nas.evaluate.randomness import seed_everything
from carbon_nas.evaluate.recipes import RECIPES
from carbon_nas.evaluate.settings import TaskSettings, TrainSettings
from carbon_nas.evaluate.signals import Lines, StopRequest
from carbon_nas.evaluate.train import Training, run
from carbon_nas.model import JobKind, JobSpec
from carbon_nas.plugins import check_options

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task():
    """120 images to train on and 40 to validate on."""
    whole = load_task(TaskSettings(), CPU)
    return dataclasses.replace(
        whole,
        train=ImageSet(whole.train.images[:120], whole.train.labels[:120]),
        validation=ImageSet(whole.validation.images[:40], whole.validation.labels[:40]),
    )


def linear():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))


def convolutional():
    torch.manual_seed(1)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *head)


class Host:
    """Keeps a checkpoint before each step, and asks to stop before step number `last`."""

    def __init__(self, folder, last=math.inf):
        self.folder, self.last, self.training = folder, last, None

    def should_stop(self):
        return self.training is not None and self.training.step >= self.last

    def save_due(self):
        return True

    def save(self, training):
        checkpoint.save(self.folder, {**training.state_dict(), "spec_hash": "s", "attempt": 1})

    def report(self, training):
        self.training = training


def assert_same_state(one, two):
    """Equality to the bit of all that a training is."""
    assert one.keys() == two.keys()
    for key in ("network", "average"):
        assert (one[key] is None) == (two[key] is None)
        for name, value in (one[key] or {}).items():
            assert torch.equal(value, two[key][name]), name
    assert all(one[key] == two[key] for key in ("step", "epoch", "curve", "micro_batch"))


# -- recipes


def test_a_recipe_sets_every_key_of_the_training_itself():
    training = set(TrainSettings.model_fields) - {"recipe", "checkpoint_seconds", "deterministic"}
    assert {name: set(values) for name, values in RECIPES.items()} == dict.fromkeys(RECIPES, training)


def test_keys_beside_a_recipe_win_and_survive_the_way_to_the_runner():
    short = check_options(TrainSettings, {"recipe": "nasbench201", "epochs": 12}, key="train")
    assert short.model_dump() == {
        **RECIPES["nasbench201"],
        "epochs": 12,
        "recipe": "nasbench201",
        "deterministic": False,
        "checkpoint_seconds": 300.0,
    }
    assert check_options(TrainSettings, short.model_dump(mode="json"), key="train") == short
    assert TrainSettings(recipe="fast", ema_decay=0).ema_decay == 0
    assert TrainSettings(recipe="fast", ema_decay=0).warmup == RECIPES["fast"]["warmup"]


def test_without_a_recipe_all_is_as_it_was():
    assert TrainSettings().model_dump() == {
        "recipe": None,
        "epochs": 4,
        "batch_size": 128,
        "learning_rate": 0.1,
        "warmup": 0.0,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "precision": "auto",
        "augment": False,
        "alternating_flip": False,
        "deterministic": False,
        "checkpoint_seconds": 300.0,
    }


def test_the_benchmarks_recipe_is_that_of_its_paper():
    """Table 1 of arXiv 2001.00326."""
    published = {
        "epochs": 200,
        "batch_size": 256,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
    }
    assert RECIPES["nasbench201"].items() >= published.items()


@pytest.mark.parametrize("recipe", RECIPES)
def test_under_a_recipe_a_cut_training_ends_with_the_same_bits(task, tmp_path, recipe):
    chosen = TrainSettings(recipe=recipe, epochs=2, batch_size=30)
    whole = Training(convolutional(), task, chosen, seed=5)
    assert run(whole, Host(tmp_path / "whole"))
    for step in (1, 4, 7):  # within an epoch, between two, before the last
        folder = tmp_path / f"cut-{step}"
        assert not run(Training(convolutional(), task, chosen, seed=5), Host(folder, last=step))
        seed_everything(99)
        resumed = Training(convolutional(), task, chosen, seed=5)
        resumed.load_state_dict(checkpoint.load_newest(folder, "s"))
        assert resumed.step == step
        assert run(resumed, Host(folder))
        assert_same_state(resumed.state_dict(), whole.state_dict())


# -- learning rate, average, flips


@given(
    warmup=st.floats(0, 0.99), peak=st.floats(1e-3, 10), epochs=st.integers(1, 50), batch=st.integers(2, 120)
)
def test_the_learning_rate_rises_once_and_falls_once(task, warmup, peak, epochs, batch):
    chosen = TrainSettings(epochs=epochs, batch_size=batch, warmup=warmup, learning_rate=peak)
    training = Training(linear(), task, chosen, seed=5)
    rates = [training.learning_rate(step) for step in range(training.steps)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert all(0 < rate <= peak for rate in rates)
    assert top == math.ceil(warmup * training.steps) or math.isclose(top, warmup * training.steps, abs_tol=1)


def test_the_schedule_by_hand(task):
    plain = Training(linear(), task, TrainSettings(epochs=4, batch_size=60, learning_rate=0.4), seed=5)
    assert [plain.learning_rate(step) for step in (0, 2, 4, 6)] == pytest.approx(
        [0.4, 0.2 + 0.2 * math.sqrt(0.5), 0.2, 0.2 - 0.2 * math.sqrt(0.5)]
    )
    warm = TrainSettings(epochs=4, batch_size=60, learning_rate=0.4, warmup=0.5)
    rates = [Training(linear(), task, warm, seed=5).learning_rate(step) for step in range(8)]
    assert rates[:6] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4, 0.2 + 0.2 * math.sqrt(0.5)])


def test_the_average_by_hand_is_what_is_validated(task):
    chosen = TrainSettings(epochs=1, batch_size=20, ema_decay=0.3)
    training = Training(convolutional(), task, chosen, seed=5)
    expected = None
    for count in range(training.steps):
        training.advance()
        now = {name: value.double() for name, value in copy.deepcopy(training.network.state_dict()).items()}
        kept = 0.0 if count == 0 else min(0.3, (1 + count) / (10 + count))
        old = expected or now
        expected = {name: kept * old[name] + (1 - kept) * value for name, value in now.items()}
    training.validate(lambda: False)
    averaged = training.average.module
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), expected[name], atol=1e-6), name
    with torch.no_grad():
        logits = averaged.eval()(task.normalise(task.validation.images))
    assert training.curve[0]["accuracy"] == (logits.argmax(1) == task.validation.labels).float().mean().item()
    last = training.network.state_dict()["0.weight"]
    assert not torch.equal(averaged.state_dict()["0.weight"], last)


@given(count=st.integers(1, 300), seed=st.integers(0, 99), epoch=st.integers(0, 20))
def test_two_epochs_show_each_image_both_ways_round(count, seed, epoch):
    one, two = (alternating_flips(count, seed, epoch + later) for later in (0, 1))
    assert (one + two == 1).all()
    assert torch.equal(one, alternating_flips(count, seed, epoch + 2))


def test_half_of_the_images_begin_flipped():
    assert alternating_flips(10_000, 5, 0).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_flips_that_are_said_are_done_and_shifts_stay_as_they_were(task):
    images = task.train.images[:60]
    said = torch.arange(60) % 2
    upright = augment(images, 1, 2, 3, torch.zeros_like(said))
    by_hand = torch.where(said[:, None, None, None] == 1, upright.flip(3), upright)
    assert torch.equal(augment(images, 1, 2, 3, said), by_hand)
    by_chance = augment(images, 1, 2, 3)
    kept = [torch.equal(*pair) for pair in zip(by_chance, upright, strict=True)]
    turned = [torch.equal(one, two.flip(2)) for one, two in zip(by_chance, upright, strict=True)]
    assert all(one or two for one, two in zip(kept, turned, strict=True))
    assert 15 < sum(kept) < 45


def test_a_training_alternates(task):
    """Of an image shifted by nothing, two epochs see the picture and its mirror image."""
    chosen = TrainSettings(epochs=2, batch_size=120, augment=True, alternating_flip=True)
    training = Training(linear(), task, chosen, seed=5)
    seen = []
    for _ in range(2):
        seen.append({bytes(image.numpy()) for image in training._batch(0)[0]})
        training.advance()
        training.validate(lambda: False)
    pictures = task.normalise(task.train.images)
    found = [
        tuple(bytes(side.contiguous().numpy()) in epoch for epoch in seen)
        for one in pictures
        for side in (one, one.flip(2))
    ]
    assert (True, True) not in found
    assert found.count((True, False)) + found.count((False, True)) >= 3


# -- losses that are no numbers


class Poisoned(nn.Module):
    """A linear network whose answer to the training batch number `fatal`, from 0, is no number."""

    def __init__(self, fatal, answer=math.nan):
        super().__init__()
        self.inner, self.fatal, self.answer, self.batches = linear(), fatal, answer, 0

    def forward(self, images):
        poison = self.answer if self.training and self.batches == self.fatal else 1.0
        self.batches += self.training
        return self.inner(images) * poison


@pytest.mark.parametrize("fatal", [0, 2, 3, 5])
@pytest.mark.parametrize("saves_always", [True, False])
def test_a_loss_that_is_no_number_is_told_with_its_step_and_its_learning_rate(
    task, tmp_path, fatal, saves_always
):
    chosen = TrainSettings(epochs=2, batch_size=40, learning_rate=0.02)
    training = Training(Poisoned(fatal), task, chosen, seed=5)
    host = Host(tmp_path)
    host.save_due = lambda: saves_always or training.step == 0
    rate = 0.01 * (1 + math.cos(math.pi * fatal / 6))
    with pytest.raises(JobError) as caught:
        run(training, host)
    assert str(caught.value) == (
        f"the loss became nan in epoch {fatal // 3 + 1}, at step {fatal + 1} of 6, with a learning rate of"
        f" {rate:.3g}; a lower learning_rate may help"
    )
    newest = checkpoint.load_newest(tmp_path, "s")
    assert newest["step"] == (fatal if saves_always else 0)
    assert all(value.isfinite().all() for value in newest["network"].values())


def test_weights_ruined_by_the_last_step_are_found_by_the_validation(task, tmp_path):
    training = Training(linear(), task, TrainSettings(epochs=1, batch_size=40), seed=5)
    for _ in range(3):
        training.advance()
    with torch.no_grad():
        training.network[1].weight.fill_(math.inf)
    with pytest.raises(JobError, match=r"the validation loss became nan in epoch 1, at step 3 of 3"):
        training.validate(lambda: False)
    assert training.curve == []


# -- memory


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Hungry(nn.Module):
    """A network on a device whose memory holds `most` images at a time in training, and ten times as many without."""

    def __init__(self, most, make=linear, since=0, error=FULL):
        super().__init__()
        self.inner, self.most, self.since, self.error = make(), most, since, error
        self.sizes, self.batches = [], 0

    def forward(self, images):
        most = self.most * (1 if self.training else 10)
        self.batches += self.training
        if len(images) > most and self.batches > self.since:
            raise self.error
        self.sizes.append(len(images))
        return self.inner(images)


def gradients(training):
    return [parameter.grad.clone() for parameter in training.network.parameters()]


@pytest.mark.parametrize(("most", "micro_batch"), [(60, 60), (59, 30), (15, 15), (9, 8), (2, 2)])
def test_a_batch_too_large_is_taken_in_parts_with_the_same_gradient(task, most, micro_batch):
    chosen = TrainSettings(epochs=1, batch_size=60, label_smoothing=0.1)
    easy, hard = (Training(Hungry(many), task, chosen, seed=5) for many in (1000, most))
    for training in (easy, hard):
        training.advance()
    assert hard.micro_batch == micro_batch
    assert sum(hard.network.sizes) == 60
    assert max(hard.network.sizes) == micro_batch
    assert max(hard.network.sizes) - min(hard.network.sizes) <= 1
    for one, two in zip(gradients(easy), gradients(hard), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    assert hard.mean_loss() == pytest.approx(easy.mean_loss(), rel=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_what_cudnn_and_cublas_call_it_is_too_little_memory_as_well(task, text):
    training = Training(
        Hungry(15, error=RuntimeError(text)), task, TrainSettings(epochs=1, batch_size=60), seed=5
    )
    training.advance()
    assert training.micro_batch == 15
    assert sum(training.network.sizes) == 60


def test_any_other_error_of_the_network_is_not_taken_for_too_little_memory(task):
    other = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
    training = Training(Hungry(15, error=other), task, TrainSettings(epochs=1, batch_size=60), seed=5)
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        training.advance()
    assert training.micro_batch == 60


@pytest.mark.parametrize("part", ["before the weights", "after the weights"])
def test_a_step_that_does_not_fit_is_never_made_twice(task, tmp_path, part):
    training = Training(linear(), task, TrainSettings(epochs=1, batch_size=40, ema_decay=0.5), seed=5)
    calls = []

    def fail(*_):
        calls.append(training.step)
        if training.step == 2:
            raise FULL

    if part == "before the weights":
        training.optimizer.register_step_pre_hook(fail)
    else:
        training.optimizer.register_step_post_hook(fail)
    with pytest.raises(JobError, match=r"out of memory when the weights were updated at step 3.*CUDA out of"):
        run(training, Host(tmp_path))
    assert calls == [0, 1, 2]
    assert training.micro_batch == 40
    assert checkpoint.load_newest(tmp_path, "s")["step"] == 2


def test_validation_that_does_not_fit_is_done_in_parts_too(task):
    whole = dataclasses.replace(task, validation=task.train)
    training = Training(Hungry(4, since=-1), whole, TrainSettings(epochs=1, batch_size=120), seed=5)
    training.micro_batch = 30  # it says 125 of 500 at a time; 40 fit
    training.step = 1
    training.validate(lambda: False)
    assert training.micro_batch == 8
    assert max(training.network.sizes) <= 40
    with torch.no_grad():
        logits = training.network.inner(task.normalise(task.train.images))
    right = (logits.argmax(1) == task.train.labels).sum().item()
    assert training.curve[0]["accuracy"] == pytest.approx(right / 120)


def test_memory_that_holds_no_two_images_ends_the_job_and_keeps_its_checkpoint(task, tmp_path):
    training = Training(Hungry(1, since=2), task, TrainSettings(epochs=1, batch_size=40), seed=5)
    with pytest.raises(JobError, match=r"out of memory with 2 images at a time: CUDA out of memory"):
        run(training, Host(tmp_path))
    assert checkpoint.load_newest(tmp_path, "s")["step"] == 2


def test_the_smaller_batch_survives_a_cut_and_the_bits_are_the_same(task, tmp_path):
    """The memory is exceeded at step 3; every cut is before, at or after it."""
    chosen = TrainSettings(epochs=2, batch_size=30, ema_decay=0.5)

    def make(before):
        return Training(Hungry(10, convolutional, since=max(3 - before, 0)), task, chosen, seed=5)

    whole = make(before=0)
    assert run(whole, Host(tmp_path / "whole"))
    assert whole.micro_batch == 8
    for step in range(1, whole.steps):
        folder = tmp_path / f"cut-{step}"
        assert not run(make(before=0), Host(folder, last=step))
        resumed = make(before=step)
        resumed.load_state_dict(checkpoint.load_newest(folder, "s"))
        assert resumed.micro_batch == (8 if step > 3 else 30)
        assert run(resumed, Host(folder))
        assert_same_state(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize(("most", "told"), [(1000, {}), (999, {"micro_batch": 500.0})])
def test_a_result_tells_of_the_smaller_batch(tmp_path, monkeypatch, most, told):
    class Space:
        def build(self, arch, planes, classes):
            return Hungry(most)

    monkeypatch.setattr(jobs, "build_space", lambda spec: Space())
    train = {"epochs": 1, "batch_size": 1000}
    spec = JobSpec("job", JobKind.TRAIN, 1, ("any",), "nasbench201", tmp_path, seed=7, train=train)
    protocol.write_spec(spec)
    attempt = Attempt(spec, StopRequest(), Lines(-1), base_cpu_seconds=0.0)
    assert jobs.train_job(attempt, jobs.Workshop())
    values = protocol.read_results(tmp_path)[0].values
    assert {name: values[name] for name in values if name == "micro_batch"} == told
    assert values.keys() - told.keys() == {"accuracy", "loss", "parameters", "flops", "epochs"}
