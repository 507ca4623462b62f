import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from carbon_nas.errors import JobError
from carbon_nas.evaluate import checkpoint
from carbon_nas.evaluate.data import ImageSet, load_task
from carbon_nas.evaluate.randomness import seed_everything, stable_seed
from carbon_nas.evaluate.settings import TaskSettings, TrainSettings
from carbon_nas.evaluate.train import Training, run
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

SPACE = NasBench201(NasBench201Options(channels=2, cells=1))
ARCH = SPACE.decode((3, 1, 2, 4, 2, 1))
SETTINGS = TrainSettings(epochs=3, batch_size=60, augment=True, label_smoothing=0.1)
STEPS_PER_EPOCH = 4
QUESTIONS = 3 * (STEPS_PER_EPOCH + 2)  # before each step and each validation, and once inside it


@pytest.fixture(scope="module", autouse=True)
def exact():
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def task():
    whole = load_task(TaskSettings(), torch.device("cpu"))
    return dataclasses.replace(
        whole,
        train=ImageSet(whole.train.images[:250], whole.train.labels[:250]),
        validation=ImageSet(whole.validation.images[:90], whole.validation.labels[:90]),
    )


class StoppingHost:
    """Asks the training to stop at the question number `patience`, and keeps checkpoints on disk."""

    def __init__(self, folder, attempt=1, patience=math.inf, saves_always=False):
        self.folder, self.attempt, self.patience, self.saves_always = folder, attempt, patience, saves_always
        self.questions = 0
        self.reports = []

    def should_stop(self):
        self.questions += 1
        return self.questions > self.patience

    def save_due(self):
        return self.saves_always

    def save(self, training):
        checkpoint.save(self.folder, {**training.state_dict(), "spec_hash": "s", "attempt": self.attempt})

    def report(self, training):
        self.reports.append((training.step, training.epoch))


def nasbench():
    return SPACE.build(ARCH, 1, 10)


def with_dropout():
    """A network that draws from torch's global generator at each step."""
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 10))


def train(task, folder, cuts=(), build=nasbench, chosen=SETTINGS):
    """Train with a stop at each of `cuts` (question numbers), every attempt in a new network."""
    for attempt, patience in enumerate([*cuts, math.inf], start=1):
        seed_everything(1 if attempt == 1 else 1000 + attempt)  # later attempts must not depend on it
        training = Training(build(), task, chosen, seed=5)
        state = checkpoint.load_newest(folder, "s")
        if state is not None:
            training.load_state_dict(state)
        if run(training, StoppingHost(folder, attempt, patience)):
            return training
    raise AssertionError("the last attempt cannot stop")


def assert_same(one, two, where="state"):
    """Equality to the bit, through all containers."""
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for place, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where}[{place}]")
    else:
        assert one == two, where


@pytest.fixture(scope="module")
def uninterrupted(task, tmp_path_factory):
    return train(task, tmp_path_factory.mktemp("whole")).state_dict()


@pytest.mark.parametrize("cut", range(QUESTIONS))
def test_cut_anywhere_it_ends_with_the_same_bits(task, tmp_path, uninterrupted, cut):
    assert_same(train(task, tmp_path, [cut]).state_dict(), uninterrupted)


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 6), max_size=6))
def test_cut_again_and_again_it_ends_with_the_same_bits(task, tmp_path_factory, uninterrupted, cuts):
    assert_same(train(task, tmp_path_factory.mktemp("cut"), cuts).state_dict(), uninterrupted)


@pytest.mark.parametrize("cut", [0, 3, 5, 11, 17])
@pytest.mark.parametrize(
    ("build", "chosen"),
    [(with_dropout, SETTINGS), (nasbench, SETTINGS.model_copy(update={"precision": "bfloat16"}))],
)
def test_generators_and_mixed_precision_resume_too(task, tmp_path, build, chosen, cut):
    whole = train(task, tmp_path / "whole", build=build, chosen=chosen).state_dict()
    assert_same(train(task, tmp_path / "cut", [cut], build=build, chosen=chosen).state_dict(), whole)


def test_the_number_of_questions_is_what_the_cuts_assume(task, tmp_path, uninterrupted):
    host = StoppingHost(tmp_path)
    seed_everything(1)
    training = Training(nasbench(), task, SETTINGS, seed=5)
    assert run(training, host)
    assert host.questions == QUESTIONS
    assert training.steps_per_epoch == STEPS_PER_EPOCH
    assert host.reports[STEPS_PER_EPOCH - 1 : STEPS_PER_EPOCH + 1] == [(4, 0), (4, 1)]
    assert_same(training.state_dict(), uninterrupted)


def test_saving_at_every_step_changes_nothing(task, tmp_path, uninterrupted):
    seed_everything(1)
    training = Training(nasbench(), task, SETTINGS, seed=5)
    assert run(training, StoppingHost(tmp_path, saves_always=True))
    assert_same(training.state_dict(), uninterrupted)
    assert len(checkpoint.manifests(tmp_path)) == 2


def test_another_seed_gives_another_network(task, tmp_path, uninterrupted):
    seed_everything(1)
    training = Training(nasbench(), task, SETTINGS, seed=6)
    run(training, StoppingHost(tmp_path))
    key = "classifier.weight"
    assert not torch.equal(training.network.state_dict()[key], uninterrupted["network"][key])


def test_one_step_by_hand(task):
    """SGD with Nesterov momentum on the mean cross-entropy, as the textbook has it."""
    chosen = TrainSettings(epochs=1, batch_size=50, learning_rate=0.2, momentum=0.8, weight_decay=0.01)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 10, bias=False))
    training = Training(network, task, chosen, seed=5)
    weight = network[1].weight.detach().clone().double()
    momentum = torch.zeros_like(weight)
    for step in range(3):
        images, labels = training._batch(step)
        x = images.flatten(1).double()
        errors = (x @ weight.T).softmax(1) - nn.functional.one_hot(labels, 10)
        gradient = errors.T @ x / 50 + 0.01 * weight
        momentum = gradient if step == 0 else 0.8 * momentum + gradient
        weight -= 0.2 * (1 + math.cos(math.pi * step / 5)) / 2 * (gradient + 0.8 * momentum)
        training.advance()
    assert torch.allclose(network[1].weight.double(), weight, atol=1e-5)


def test_an_epoch_takes_every_image_at_most_once(task):
    training = Training(nasbench(), task, TrainSettings(batch_size=50), seed=5)
    batches = [training._batch(place)[0] for place in range(training.steps_per_epoch)]
    seen = sorted(bytes(image.numpy()) for image in torch.cat(batches))
    assert seen == sorted(bytes(image.numpy()) for image in task.normalise(task.train.images))


def test_validation_by_hand(task, tmp_path):
    seed_everything(1)
    training = Training(nasbench(), task, TrainSettings(epochs=1, batch_size=60), seed=5)
    run(training, StoppingHost(tmp_path))
    with torch.no_grad():
        logits = training.network.eval()(task.normalise(task.validation.images))
    point = training.curve[0]
    assert point["accuracy"] == sum((logits.argmax(1) == task.validation.labels).tolist()) / 90
    losses = -logits.log_softmax(1)[range(90), task.validation.labels]
    assert point["loss"] == pytest.approx(losses.mean().item(), rel=1e-5)


def test_it_learns(tmp_path):
    seed_everything(1)
    task = load_task(TaskSettings(), torch.device("cpu"))
    network = NasBench201(NasBench201Options(channels=4, cells=1)).build(ARCH, 1, 10)
    training = Training(network, task, TrainSettings(epochs=2, batch_size=64), seed=5)
    run(training, StoppingHost(tmp_path))
    assert training.curve[-1]["accuracy"] > 0.7
    assert training.curve[1]["train_loss"] < training.curve[0]["train_loss"]


def test_a_loss_that_is_no_number_ends_the_job(task, tmp_path):
    chosen = TrainSettings(epochs=2, batch_size=60, learning_rate=1e30)
    training = Training(with_dropout(), task, chosen, seed=5)
    with pytest.raises(JobError, match=r"the loss became (nan|inf) in epoch 1"):
        run(training, StoppingHost(tmp_path))


def test_impossible_settings_are_refused(task):
    with pytest.raises(JobError, match="batch_size 500 exceeds the 250 training images"):
        Training(nasbench(), task, TrainSettings(batch_size=500), seed=5)
    with pytest.raises(JobError, match=r"float16.* needs a GPU"):
        Training(nasbench(), task, TrainSettings(precision="float16"), seed=5)


def test_seeds_are_stable():
    assert (
        stable_seed(7, "arch", "synflow") == 558241990339876621
    )  # the first 8 bytes of sha256("7\x1farch\x1fsynflow"), halved
    assert stable_seed(7, "arch") != stable_seed(7, "arch", "")
    assert stable_seed(1, 23) != stable_seed(12, 3)
