"""The training loop: SGD with Nesterov momentum, the learning rate falling by a cosine, mixed precision on a GPU.

It can stop before any step and go on from there as if nothing had happened: its whole position is `step` and the
number of epochs validated, because the data's order depends on the seed and the epoch alone (see `data`). On a
CPU the run that was stopped and resumed gives the same bits as the one that was not.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carbon_nas.errors import JobError
from carbon_nas.evaluate.data import Task, augment, epoch_order
from carbon_nas.evaluate.precision import choose_dtype
from carbon_nas.evaluate.randomness import restore_rng, rng_state
from carbon_nas.evaluate.settings import TrainSettings

VALIDATION_BATCH = 500


class Host(Protocol):
    """Who runs a training: says when to save and to stop, and is told how far it is."""

    def should_stop(self) -> bool:
        """Whether to save and leave; once it is True it stays so."""
        ...

    def save_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        ...

    def save(self, training: "Training") -> None:
        """Keep `training.state_dict()`."""

    def report(self, training: "Training") -> None:
        """Take note of a step or a validation."""


def run(training: "Training", host: Host) -> bool:
    """Train to the end and say True; or, asked to stop, save at the next step and say False.

    Raises:
        JobError: the loss is no longer a finite number.
    """
    while not training.finished:
        stop = host.should_stop()
        if stop or host.save_due():
            host.save(training)
        if stop:
            return False
        if training.epoch_is_over:
            training.validate(host.should_stop)
        else:
            training.advance()
        host.report(training)
    host.save(training)
    return True


class Training:
    """A network on its way through `settings.epochs` epochs of a task's training images.

    `curve` has one point per epoch: the mean `train_loss`, and `loss` and `accuracy` on the validation images.

    Raises:
        JobError: fewer images than a batch holds, or float16 without a GPU.
    """

    def __init__(self, network: nn.Module, task: Task, settings: TrainSettings, seed: int) -> None:
        self._device = task.train.images.device
        self._layout = torch.channels_last if self._device.type == "cuda" else torch.contiguous_format
        self._dtype = choose_dtype(settings.precision, self._device)
        self._task, self._settings, self._seed = task, settings, seed
        self.steps_per_epoch = len(task.train) // settings.batch_size  # the last, smaller batch is left out
        if self.steps_per_epoch == 0:
            raise JobError(f"batch_size {settings.batch_size} exceeds the {len(task.train)} training images")
        self.network = network.to(self._device).to(memory_format=self._layout)
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=True,
        )
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype is torch.float16)
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)  # of this epoch
        self._order = (-1, torch.empty(0, dtype=torch.int64))

    @property
    def steps(self) -> int:
        """How many steps the whole training has."""
        return self._settings.epochs * self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """How many epochs are over and validated."""
        return len(self.curve)

    @property
    def finished(self) -> bool:
        """Whether the last epoch is validated."""
        return self.epoch == self._settings.epochs

    @property
    def epoch_is_over(self) -> bool:
        """Whether all steps of the epoch are done, so that it must be validated next."""
        return self.step == (self.epoch + 1) * self.steps_per_epoch

    def advance(self) -> None:
        """Make one step of the optimizer."""
        place = self.step - self.epoch * self.steps_per_epoch
        images, labels = self._batch(place)
        for group in self.optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        self.network.train()
        loss = self._loss(images, labels, self._settings.label_smoothing)[0]
        self.optimizer.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._loss_sum += loss.detach()  # no .item(): it would make the CPU wait for the GPU at each step
        self.step += 1

    def mean_loss(self) -> float:
        """Give the mean loss of this epoch's steps so far; zero before the first.

        Raises:
            JobError: it is not a finite number.
        """
        done = self.step - self.epoch * self.steps_per_epoch
        mean = self._loss_sum.item() / max(done, 1)
        if not math.isfinite(mean):
            raise JobError(
                f"the loss became {mean} in epoch {self.epoch + 1}; a lower learning_rate may help"
            )
        return mean

    def validate(self, should_stop: Callable[[], bool]) -> None:
        """Close the epoch with a point of the curve; asked to stop, leave it open: it is done again later."""
        train_loss = self.mean_loss()
        self.network.eval()
        held_out = self._task.validation
        loss_sum, correct = 0.0, 0
        for start in range(0, len(held_out), VALIDATION_BATCH):
            if should_stop():
                return
            part = slice(start, start + VALIDATION_BATCH)
            images, labels = self._task.normalise(held_out.images[part]), held_out.labels[part]
            with torch.no_grad():
                loss, logits = self._loss(images, labels)
            loss_sum += loss.item() * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
        count = len(held_out)
        point = {"loss": loss_sum / count, "accuracy": correct / count}
        self.curve.append({"train_loss": train_loss, **point})
        self._loss_sum.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Give all that `load_state_dict` needs to go on exactly here, as plain values and tensors."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": rng_state(),
            "step": self.step,
            "epoch": self.epoch,
            "curve": self.curve,
            "loss_sum": self._loss_sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, also on another device."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        restore_rng(state["rng"])
        self.step = state["step"]
        self.curve = list(state["curve"])
        self._loss_sum = state["loss_sum"].to(self._device)

    def _batch(self, place: int) -> tuple[Tensor, Tensor]:
        if self._order[0] != self.epoch:
            order = epoch_order(len(self._task.train), self._seed, self.epoch)
            self._order = (self.epoch, order.to(self._device))
        size = self._settings.batch_size
        chosen = self._order[1][place * size : (place + 1) * size]
        images = self._task.train.images[chosen]
        if self._settings.augment:
            images = augment(images, self._seed, self.epoch, place)
        return self._task.normalise(images), self._task.train.labels[chosen]

    def _loss(self, images: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        mixed = self._dtype is not torch.float32
        with torch.autocast(self._device.type, dtype=self._dtype if mixed else None, enabled=mixed):
            logits = self.network(images.to(memory_format=self._layout))
            return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits
