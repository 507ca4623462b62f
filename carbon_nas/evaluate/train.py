"""The training loop: SGD with Nesterov momentum, the learning rate falling by a cosine, mixed precision on a GPU.

A batch that does not fit into the GPU's memory is taken in halves, quarters ..., whose gradients are added up: the
same step, but for batch normalisation, which then sees the smaller batches. It stays so to the end. Memory that is
exceeded later in the step, when the weights change, ends the training: that part cannot be done again.

It can stop before any step and go on from there as if nothing had happened: its whole position is `step` and the
number of epochs validated, because the data's order depends on the seed and the epoch alone (see `data`). On a
CPU the run that was stopped and resumed gives the same bits as the one that was not.
"""

import logging
import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carbon_nas.errors import JobError
from carbon_nas.evaluate import memory
from carbon_nas.evaluate.averaging import moving_average
from carbon_nas.evaluate.data import Task, alternating_flips, augment, epoch_order
from carbon_nas.evaluate.precision import choose_dtype
from carbon_nas.evaluate.randomness import restore_rng, rng_state
from carbon_nas.evaluate.settings import TrainSettings

VALIDATION_BATCH = 500
SMALLEST_BATCH = 2  # batch normalisation is at a loss with one

T = TypeVar("T")

log = logging.getLogger(__name__)


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
        JobError: the loss is no longer a finite number, or the memory does not hold a batch of two or the update of
            the weights. Nothing is saved then: the checkpoints are those of before.
    """
    while not training.finished:
        stop = host.should_stop()
        if stop or host.save_due():
            training.require_finite()
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

    It is `finished` after `until` of them, all if that is None. The learning rate is that of the whole way, so that
    what goes on later, from the state that was kept, is one training and the same as the one that never paused.
    `curve` has one point per epoch: the mean `train_loss`, and `loss` and `accuracy` on the validation images. A step
    takes its batch in parts of at most `micro_batch` images: the whole, as long as the memory suffices.

    Raises:
        JobError: fewer images than a batch holds, float16 without a GPU, or `until` beyond `settings.epochs`.
    """

    def __init__(
        self, network: nn.Module, task: Task, settings: TrainSettings, seed: int, *, until: int | None = None
    ) -> None:
        self.until = settings.epochs if until is None else until
        if not 0 < self.until <= settings.epochs:
            raise JobError(f"a training of {settings.epochs} epochs cannot pause after {self.until}")
        self._device = task.train.images.device
        self._dtype = choose_dtype(settings.precision, self._device)
        self._task, self._settings, self._seed = task, settings, seed
        self.steps_per_epoch = len(task.train) // settings.batch_size  # the last, smaller batch is left out
        if self.steps_per_epoch == 0:
            raise JobError(f"batch_size {settings.batch_size} exceeds the {len(task.train)} training images")
        # Channels last: 1.2 to 2 times as fast on a CPU, and what the tensor cores of a GPU want.
        self.network = network.to(self._device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=True,
        )
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype is torch.float16)
        self.average = moving_average(network, settings.ema_decay) if settings.ema_decay else None
        self.step = 0
        self.micro_batch = settings.batch_size
        self.curve: list[dict[str, float]] = []
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)  # of this epoch
        self._unchecked: list[Tensor] = []  # the losses of the last steps, not looked at yet
        self._order = (-1, torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))

    @property
    def steps(self) -> int:
        """How many steps the whole training has."""
        return self._settings.epochs * self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """How many epochs are over and validated."""
        return len(self.curve)

    @property
    def fraction(self) -> float:
        """The share of its steps done, 0 to 1, of those up to `until`."""
        return self.step / (self.until * self.steps_per_epoch)

    @property
    def finished(self) -> bool:
        """Whether the epoch `until` is validated."""
        return self.epoch >= self.until

    @property
    def epoch_is_over(self) -> bool:
        """Whether all steps of the epoch are done, so that it must be validated next."""
        return self.step == (self.epoch + 1) * self.steps_per_epoch

    def advance(self) -> None:
        """Make one step of the optimizer.

        Raises:
            JobError: the memory does not hold a batch of two, or not the update of the weights.
        """
        images, labels = self._batch(self.step - self.epoch * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        loss = self._within_memory(lambda: self._backward(images, labels))
        self._update()
        self._loss_sum += loss  # no .item(): it would make the CPU wait for the GPU at each step
        self._unchecked.append(loss)
        self.step += 1

    def learning_rate(self, step: int) -> float:
        """Give the learning rate of a step: up by a line during the warm-up, then down by a cosine."""
        warmup = self._settings.warmup * self.steps
        if step < warmup:
            return self._settings.learning_rate * (step + 1) / (warmup + 1)
        done = (step - warmup) / (self.steps - warmup)
        return self._settings.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def mean_loss(self) -> float:
        """Give the mean loss of this epoch's steps so far; zero before the first.

        Raises:
            JobError: it is not a finite number.
        """
        self.require_finite()
        done = self.step - self.epoch * self.steps_per_epoch
        return self._loss_sum.item() / max(done, 1)

    def require_finite(self) -> None:
        """Look at the losses since the last time; JobError, where one is not a finite number."""
        losses = torch.stack(self._unchecked).tolist() if self._unchecked else []
        for step, loss in enumerate(losses, start=self.step - len(losses)):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", step)
        self._unchecked.clear()

    def validate(self, should_stop: Callable[[], bool]) -> None:
        """Close the epoch with a point of the curve; asked to stop, leave it open: it is done again later.

        Raises:
            JobError: a loss is not a finite number, or the memory does not hold a batch of two.
        """
        train_loss = self.mean_loss()
        found = self._within_memory(lambda: self._judge(should_stop))
        if found is None:
            return
        count = len(self._task.validation)
        point = {"loss": found[0] / count, "accuracy": found[1] / count}
        if not math.isfinite(point["loss"]):
            raise self._diverged(f"the validation loss became {point['loss']}", self.step - 1)
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
            "average": None if self.average is None else self.average.state_dict(),
            "micro_batch": self.micro_batch,
            "curve": self.curve,
            "loss_sum": self._loss_sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, also on another device."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        restore_rng(state["rng"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.micro_batch = state["micro_batch"]
        self.step = state["step"]
        self.curve = list(state["curve"])
        self._loss_sum = state["loss_sum"].to(self._device)

    def _batch(self, place: int) -> tuple[Tensor, Tensor]:
        if self._order[0] != self.epoch:
            count = len(self._task.train)
            order = epoch_order(count, self._seed, self.epoch).to(self._device)
            self._order = (
                self.epoch,
                order,
                alternating_flips(count, self._seed, self.epoch).to(self._device),
            )
        size = self._settings.batch_size
        chosen = self._order[1][place * size : (place + 1) * size]
        images = self._task.train.images[chosen]
        if self._settings.augment:
            flips = self._order[2][chosen] if self._settings.alternating_flip else None
            images = augment(images, self._seed, self.epoch, place, flips)
        return self._task.normalise(images), self._task.train.labels[chosen]

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Leave the gradient of the batch's mean loss in the parameters, and give that loss."""
        self.network.train()
        self.optimizer.zero_grad()
        parts = -(-len(labels) // self.micro_batch)
        total = torch.zeros((), device=self._device)
        for part, its_labels in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
            loss = self._loss(self.network, part, its_labels, self._settings.label_smoothing)[0]
            loss = loss * (len(its_labels) / len(labels))
            torch.autograd.backward(self.scaler.scale(loss))
            total += loss.detach()
        return total

    def _update(self) -> None:
        """Take the gradient into the weights and their average; never twice, as half may be done already."""
        try:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.average is not None:
                self.average.update_parameters(self.network)
        except RuntimeError as error:
            if not memory.is_exceeded(error):
                raise
            raise JobError(
                f"out of memory when the weights were updated at step {self.step + 1}, which smaller parts of a batch"
                f" do not help: the network needs a larger GPU, or this one to itself: {error}"
            ) from error

    def _judge(self, should_stop: Callable[[], bool]) -> tuple[float, int] | None:
        """Give the sum of the losses over the validation images, and how many are right; None if asked to stop."""
        network = self.network if self.average is None else self.average
        network.eval()
        held_out = self._task.validation
        size = -(-VALIDATION_BATCH * self.micro_batch // self._settings.batch_size)
        loss_sum, correct = 0.0, 0
        for start in range(0, len(held_out), size):
            if should_stop():
                return None
            part = slice(start, start + size)
            images, labels = self._task.normalise(held_out.images[part]), held_out.labels[part]
            with torch.no_grad():
                loss, logits = self._loss(network, images, labels)
            loss_sum += loss.item() * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
        return loss_sum, correct

    def _within_memory(self, work: Callable[[], T]) -> T:
        """Do `work`, again from its beginning with half the `micro_batch` as often as the GPU's memory is exceeded."""
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not memory.is_exceeded(error):
                    raise
                if self.micro_batch <= SMALLEST_BATCH:
                    raise JobError(
                        f"out of memory with {self.micro_batch} images at a time: {error}"
                    ) from error
            # Out here the error is gone, and with it the tensors that its traceback held.
            self.micro_batch = -(-self.micro_batch // 2)
            log.warning(
                "out of memory at step %d: from now on %d images at a time", self.step, self.micro_batch
            )
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()

    def _diverged(self, what: str, step: int) -> JobError:
        return JobError(
            f"{what} in epoch {self.epoch + 1}, at step {step + 1} of {self.steps}, with a learning rate of"
            f" {self.learning_rate(step):.3g}; a lower learning_rate may help"
        )

    def _loss(
        self, network: nn.Module, images: Tensor, labels: Tensor, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        mixed = self._dtype is not torch.float32
        with torch.autocast(self._device.type, dtype=self._dtype if mixed else None, enabled=mixed):
            logits = network(images.to(memory_format=torch.channels_last))
            return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits
