"""What is evaluated on, and how: the sections `[task]`, `[score]` and `[train]`, checked without torch.

The daemon reads them from its configuration and hands them on in each job's specification; the runner checks
them again, with the same classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate import published
from carbon_nas.evaluate.recipes import RECIPES
from carbon_nas.interfaces import SearchSpace
from carbon_nas.plugins import suggestion
from carbon_nas.search import cost
from carbon_nas.search.cost import Cost
from carbon_nas.search.ranking import AGGREGATE

STRICT = ConfigDict(extra="forbid", frozen=True)


class DataSet(NamedTuple):
    """What is known of a data set before it is read.

    `folder` is where it lies in `data_dir`; None if shipped. `side` is the height and width of its images; None where
    the files alone tell.
    """

    folder: str | None
    licence: str
    side: int | None


DATA_SETS: Mapping[str, DataSet] = {
    "fashion16": DataSet(None, "MIT", 16),
    "fashion-mnist": DataSet("FashionMNIST/raw", "MIT", 28),
    "cifar10": DataSet("cifar-10-batches-py", "none stated", 32),
    "cifar100": DataSet("cifar-100-python", "none stated", 32),
    "image-folder": DataSet("train", "the user's own", None),
}
"""The data sets by name. Those not shipped are read by torchvision, from its own layout; "image-folder" is any set
of equally large pictures, in one folder for each class."""

PROXIES = (
    *("params", "flops", "grad_norm", "synflow", "naswot"),
    *("swap", "meco", "zen", "az_expressivity", "az_progressivity", "az_trainability"),
    *("grad_diversity", "norm_preservation", "snip", "grasp"),
    *("fisher", "l2_norm", "jacov", "epe_nas", "zico"),
)
"""The zero-cost proxies by name; `carbon_nas.evaluate.proxies` computes them."""


class TaskSettings(BaseModel):
    """The data set, and the folder it lies in unless it is shipped."""

    model_config = STRICT

    dataset: str = "fashion16"
    data_dir: Path | None = None

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str) -> str:
        return _require_known(name, "data set", list(DATA_SETS))

    @model_validator(mode="after")
    def _has_folder(self) -> "TaskSettings":
        if DATA_SETS[self.dataset].folder is not None and self.data_dir is None:
            raise ValueError(
                f"dataset {self.dataset!r} is not shipped: set data_dir to the folder that holds"
                f" {DATA_SETS[self.dataset].folder}"
            )
        return self


class ScoreSettings(BaseModel):
    """The proxies to compute on one minibatch of `batch_size`: Gaussian noise, or images of the data set.

    On noise the scores do not depend on any data set. On images naswot, jacov, swap and meco rank better and
    az_progressivity clearly worse; the default combination ranks a little worse (bench/proxies/ranking.md).
    `inference_cost` names what is found out besides, of `search.cost`: what quality is weighed against.
    """

    model_config = STRICT

    proxies: tuple[str, ...] = AGGREGATE
    batch_size: Annotated[int, Field(ge=2)] = 64
    inputs: Literal["noise", "images"] = "noise"
    inference_cost: str = cost.FLOPS.name

    @property
    def cost(self) -> Cost:
        """The cost by its name."""
        return cost.named(self.inference_cost)

    @field_validator("proxies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError(f"name at least one proxy of {', '.join(PROXIES)}")
        return tuple(dict.fromkeys(_require_known(name, "proxy", list(PROXIES)) for name in names))

    @field_validator("inference_cost")
    @classmethod
    def _known_cost(cls, name: str) -> str:
        device = cost.named(name).device
        if device is not None:
            _require_known(device, "published device", list(published.DEVICES))
        return name


class TrainSettings(BaseModel):
    """One training: SGD with Nesterov momentum, the learning rate falling by a cosine to zero.

    `recipe` names the values, in `RECIPES`, that keys not given have instead of their defaults. `warmup` is the
    share of all steps in which the learning rate first rises to `learning_rate`, by a line. With an `ema_decay`
    above 0 the weights that are validated are a moving average of those of all steps. `augment` flips and shifts
    the images at random, with `alternating_flip` each image every other epoch. With `deterministic` a GPU computes
    the same bits each time, as a CPU does anyway; an operation that has no such algorithm then fails the job.
    `precision` "auto" is bfloat16 on a GPU that has it, float16 on any other, float32 on a CPU. A checkpoint is
    written at least every `checkpoint_seconds`.
    """

    model_config = STRICT

    recipe: str | None = None
    epochs: Annotated[int, Field(ge=1)] = 4
    batch_size: Annotated[int, Field(ge=2)] = 128
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    augment: bool = False
    alternating_flip: bool = False
    deterministic: bool = False
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {**RECIPES.get(str(given.get("recipe")), {}), **given}

    @field_validator("recipe")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return name if name is None else _require_known(name, "recipe", list(RECIPES))


def require_data(task: TaskSettings) -> None:
    """Check that the data set's folder is there; torchvision is not asked to download anything.

    Raises:
        ConfigurationError: it is not; the text says what to put where.
    """
    folder = DATA_SETS[task.dataset].folder
    if folder is None or task.data_dir is None:
        return
    where = task.data_dir / folder
    if not where.is_dir():
        raise ConfigurationError(
            f"no folder {where}: put the unpacked files of {task.dataset} there, as torchvision lays them out",
            key="task.data_dir",
        )


def require_cost(
    score: ScoreSettings, task: TaskSettings, space: SearchSpace, options: Mapping[str, object]
) -> None:
    """Check that the cost of an inference can be found for networks of `space`, made with `options`.

    Raises:
        ConfigurationError: it is one that was published, of other networks or of images of another size.
    """
    key, side = "score.inference_cost", DATA_SETS[task.dataset].side
    if score.cost.device is None:
        return
    if side is None:
        raise ConfigurationError(
            f"the published latencies are of images of {published.SIDE}x{published.SIDE}, and those of"
            f" {task.dataset} are only known when they are read",
            key=key,
        )
    try:
        published.require_benchmark(space, options, side=side)
    except ConfigurationError as error:
        raise ConfigurationError(error.problem, key=key) from error


def _require_known(name: str, what: str, known: list[str]) -> str:
    if name not in known:
        raise ValueError(f"no {what} named {name!r}{suggestion(name, known)}; known: {', '.join(known)}")
    return name
