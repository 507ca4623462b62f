"""The part of the command line that is about single architectures: their scores, latencies and trained weights."""

import contextlib
import dataclasses
import json
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from carbon_nas import plugins, record, state_directory
from carbon_nas.energy.quantities import significant
from carbon_nas.energy.settings import EnergySettings
from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate.settings import DATA_SETS, ScoreSettings, TaskSettings, require_data
from carbon_nas.interfaces import SearchSpace
from carbon_nas.latency import CLASSES, Latency, LatencyRequest
from carbon_nas.latency import latency as latency_of
from carbon_nas.model_export import BEST, export_model
from carbon_nas.search.ranking import aggregate, combined, unusable
from carbon_nas.search.sides import USUAL_SIDE

if TYPE_CHECKING:  # torch is loaded only by those that need it
    from carbon_nas.evaluate.score_batch import Scored

Settings = TypeVar("Settings")
SHOWN = 20
PROXIES = ",".join(ScoreSettings().proxies)
IN_DATA = "cifar10"
"""What lies in `--data` unless `--dataset` says."""


def add_evaluate_commands(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    app.command("score")(score)
    app.command("latency")(latency)
    app.command("export")(export)


Space = Annotated[str, typer.Option(help="The search space.")]
SpaceOptions = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the space; may be repeated.")
]
Side = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"Height and width of the images; by default what the space is for, or {USUAL_SIDE}."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def score(  # noqa: PLR0913, PLR0917 -- the options of a command
    space: Space = "nasbench201",
    space_option: SpaceOptions = None,
    count: Annotated[int, typer.Option(min=1, help="How many architectures to draw at random.")] = 100,
    archs: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Score these, one a line, instead of random ones.")
    ] = None,
    proxies: Annotated[str, typer.Option(help="The zero-cost proxies, separated by commas.")] = PROXIES,
    dataset: Annotated[
        str | None,
        typer.Option(help=f"Score on the images of this data set instead of noise: {', '.join(DATA_SETS)}."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help=f"Folder the data set lies in; it is {IN_DATA} unless --dataset says.")
    ] = None,
    side: Side = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help=f"Classes of the noise; by default {CLASSES}.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images in the minibatch.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the sample, the minibatch and the initial weights.")] = 0,
    device: Annotated[str, typer.Option(help='Such as "cpu", "cuda" or "cuda:1".')] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each; for a GPU 1 is best.")] = 1,
    *,
    as_json: AsJson = False,
) -> None:
    """Score architectures by zero-cost proxies, without training or a running search."""
    options = _options(space_option or [])
    task = _task(dataset, data)
    for key, value in (("--side", side), ("--classes", classes)):
        if task is not None and value is not None:
            raise ConfigurationError(f"is of noise; the images of {task.dataset} have their own", key=key)
    inputs = "noise" if task is None else "images"
    settings = _checked(ScoreSettings, "score", proxies=_names(proxies), batch_size=batch_size, inputs=inputs)
    made: SearchSpace = plugins.build("spaces", space, options, key="space")
    chosen = _drawn(made, count, seed) if archs is None else _read(archs, made)

    from carbon_nas.evaluate.score_batch import ScoreRequest, score_batch  # noqa: PLC0415 -- loads torch

    request = ScoreRequest(space, options, settings, task, seed, device, side, classes or CLASSES)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        shown = progress.add_task("scoring", total=len(chosen))
        found = score_batch(request, chosen, workers=workers, done=lambda n: progress.advance(shown, n))
    source = "noise" if task is None else task.dataset
    if as_json:
        images = {"source": source, "shape": found.shape, "classes": found.classes}
        print(json.dumps({**_summary(found.scored), "images": images}))
    else:
        _print(found.scored, settings.proxies)
        print(f"On {source}, images of {'x'.join(map(str, found.shape))} in {found.classes} classes.")


def latency(  # noqa: PLR0913 -- the options of a command
    arch: Annotated[str, typer.Option(help="The architecture, by its text.")],
    space: Space = "nasbench201",
    space_option: SpaceOptions = None,
    device: Annotated[
        str, typer.Option(help='Such as "cpu" or "cuda:1", measured here; or "pixel2", as published.')
    ] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a pass, besides one alone.")] = 1,
    side: Side = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 1,
    watts_per_core: Annotated[
        float, typer.Option(min=0.1, help="Of a busy CPU core.")
    ] = EnergySettings.watts_per_core,
    passes: Annotated[int, typer.Option(min=2, help="Forward passes to time, at least.")] = 100,
    seconds: Annotated[float, typer.Option(min=0, help="How long to go on timing, at least.")] = 2.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Tell what one inference costs: time and energy, measured on this machine or published of another."""
    request = LatencyRequest(
        space=space,
        arch=arch,
        space_options=_options(space_option or []),
        side=side,
        device=device,
        batch_size=batch_size,
        threads=threads,
        watts_per_core=watts_per_core,
        passes=passes,
        seconds=seconds,
    )
    found = latency_of(request)
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        _print_latency(found)


def _print_latency(found: Latency) -> None:
    table = Table(box=None)
    for name in ("batch", "median, ms", "middle half, ms", "images/s", "J/image"):
        table.add_column(name, justify="right")
    for cost in found.costs:
        half, batch = cost.quartile_seconds, cost.batch_size
        table.add_row(
            "-" if batch is None else str(batch),
            significant(cost.median_seconds * 1000),
            "-" if half is None else f"{significant(half[0] * 1000)} to {significant(half[1] * 1000)}",
            "-" if batch is None else significant(batch / cost.median_seconds),
            "-" if cost.joules_per_image is None else significant(cost.joules_per_image),
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{found.device}: {found.source}. Energy: {found.energy or 'not known'}.")
    operations = "uncounted" if found.flops is None else f"{found.flops:,}"
    console.print(
        f"{found.parameters:,} parameters, {operations} multiply-accumulates an image of {found.side}x{found.side}."
    )


def export(
    state_dir: Annotated[
        Path,
        typer.Option("--state-dir", envvar="STATE_DIRECTORY", help="Where the store and checkpoints are."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model; new, or of an earlier export.")],
    arch: Annotated[str, typer.Option(help="A trained architecture; by default the most accurate.")] = BEST,
    data: Annotated[Path | None, typer.Option(help="Where the data set lies, if it has moved.")] = None,
) -> None:
    """Write a trained model for use elsewhere: weights, description, ONNX and a card with its emissions."""
    with contextlib.closing(state_directory.open_for_reading(state_dir)) as store:
        kept, scores = record.load(store), store.scores()
    done = export_model(state_dir, kept, scores, arch=arch, out=out, data_dir=data)
    print(f"{done.arch}\naccuracy {done.accuracy:.2%}; written to {out.resolve()}: {', '.join(done.files)}")
    if done.without_onnx is not None:
        print(f"no model.onnx: {done.without_onnx}", file=sys.stderr)


def _summary(found: "Sequence[Scored]") -> dict[str, object]:
    """Give what `--json` prints. A score that is no finite number is null; `unusable` counts these."""
    pool = {each.arch: each.values for each in found}
    together = aggregate(pool)
    return {
        "scores": [
            {
                "arch": each.arch,
                "proxies": {
                    **{name: value if math.isfinite(value) else None for name, value in each.values.items()},
                    "aggregate": together[each.arch],
                },
                "seconds": each.seconds,
            }
            for each in found
        ],
        "seconds_by_proxy": _seconds_by_proxy(found),
        "aggregate_of": combined(pool),
        "unusable": unusable(pool),
    }


def _print(found: "Sequence[Scored]", proxies: Sequence[str]) -> None:
    pool = {each.arch: each.values for each in found}
    together = aggregate(pool)
    best = sorted(found, key=lambda each: -together[each.arch])[:SHOWN]
    numbers = {"aggregate": [together[each.arch] for each in best]}
    numbers |= {name: [each.values[name] for each in best] for name in proxies}
    console = Console()
    for table in _tables(numbers, console.width):
        console.print(table, highlight=False)
    print()
    for place, each in enumerate(best, 1):  # on lines of their own: many a text is wider than a terminal
        print(f" {place:>4}  {each.arch}")
    seconds = sum(each.seconds for each in found)
    console.print(
        f"{len(best)} best of {len(found)} by the log-rank sum of {', '.join(combined(pool))}; "
        f"{seconds / len(found):.2f} s each: "
        + ", ".join(f"{name} {spent / len(found):.2f}" for name, spent in _seconds_by_proxy(found).items()),
        highlight=False,
    )
    for name, missing in unusable(pool).items():
        if missing:
            console.print(f"{name} says nothing of {missing}; they rank last by it.", highlight=False)


def _tables(numbers: Mapping[str, Sequence[float]], width: int) -> Iterator[Table]:
    """Give the columns as tables no wider than `width`, the rows of each numbered from 1."""
    columns = {name: [f"{value:.4g}" for value in values] for name, values in numbers.items()}
    groups, room = list[list[str]](), 0
    for name, column in columns.items():
        needed = max(map(len, (name, *column))) + 2
        if needed > room:
            groups.append([])
            room = width - len("rank") - 2
        groups[-1].append(name)
        room -= needed
    for group in groups:
        table = Table(box=None)
        for name in ("rank", *group):
            table.add_column(name, justify="right")
        for place, row in enumerate(zip(*(columns[name] for name in group), strict=True), 1):
            table.add_row(str(place), *row)
        yield table


def _seconds_by_proxy(found: "Sequence[Scored]") -> dict[str, float]:
    names = dict.fromkeys(name for each in found for name in each.seconds_by_proxy)
    return {name: sum(each.seconds_by_proxy.get(name, 0.0) for each in found) for name in names}


def _drawn(space: SearchSpace, count: int, seed: int) -> list[str]:
    """Draw `count` different architectures; fewer if a thousand draws in a row bring nothing new."""
    rng, drawn, futile = random.Random(seed), dict[str, None](), 0
    while len(drawn) < count and futile < 1000:
        before = len(drawn)
        drawn[space.sample(rng)] = None
        futile = 0 if len(drawn) > before else futile + 1
    return list(drawn)


def _read(source: str, space: SearchSpace) -> list[str]:
    """Read architectures, one a line, from a file or standard input."""
    file = Path(source)
    try:
        content = sys.stdin.buffer.read() if source == "-" else file.read_bytes()
        text = content.decode("utf-8")
        found = [line.strip() for line in text.splitlines() if line.strip()]
        for arch in found:
            space.encode(arch)
    except OSError as error:
        raise ConfigurationError(f"cannot read it: {error.strerror}", file=file) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"line {line} is not UTF-8, by its byte 0x{content[error.start]:02x}; save it as UTF-8", file=file
        ) from error
    except ValueError as error:
        raise ConfigurationError(str(error), file=file) from error
    if not found:
        raise ConfigurationError("no architecture in it; one a line is expected", file=file)
    return found


def _task(dataset: str | None, data: Path | None) -> TaskSettings | None:
    """Give the data set whose images are asked for; None if it is noise."""
    if dataset is None and data is None:
        return None
    name = dataset or IN_DATA
    folder = DATA_SETS[name].folder if name in DATA_SETS else None
    if folder is not None and data is None:
        raise ConfigurationError(f"{name} is not shipped: name the folder that holds {folder}", key="--data")
    task = _checked(TaskSettings, "task", dataset=name, data_dir=data)
    require_data(task)
    return task


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _options(pairs: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"expected KEY=VALUE, got {pair!r}", key="--space-option")
        found[name] = value
    return found


def _checked(settings: type[Settings], key: str, **values: object) -> Settings:
    checked: Settings = plugins.check_options(settings, values, key=key)
    return checked
