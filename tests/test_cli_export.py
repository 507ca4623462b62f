"""`carbon-nas export`: from a state directory that a real daemon made to a model and its card."""

import contextlib
import json
import math
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
import yaml
from daemon_process import cli, content, query

from carbon_nas import record, state_directory
from carbon_nas.errors import EX_CONFIG, ConfigurationError, StoreError
from carbon_nas.evaluate import export
from carbon_nas.evaluate.data import load_task
from carbon_nas.evaluate.export import ExportError
from carbon_nas.evaluate.settings import TaskSettings
from carbon_nas.model import JOULES_PER_KWH
from carbon_nas.model_export import BEST, export_model


@pytest.fixture(scope="module")
def state(ended_state):
    return ended_state


@pytest.fixture
def changed(state, tmp_path):
    """Give a function that changes a copy of it by SQL, and gives the copy."""
    copy = tmp_path / "state"
    shutil.copytree(state, copy)

    def change(*statements):
        with contextlib.closing(sqlite3.connect(copy / state_directory.DATABASE)) as database, database:
            for statement in statements:
                database.execute(statement)
        return copy

    return change


@pytest.fixture(scope="module")
def exported(state, tmp_path_factory):
    """The folder of the best model, written by the command line, which changes nothing else."""
    out = tmp_path_factory.mktemp("models") / "best"
    before = content(state)
    done = cli("export", "--state-dir", state, "--out", out)
    assert (done.returncode, done.stderr) == (0, "") or export.missing_for_onnx()
    assert content(state) == before
    return out


def exporting(state, out, arch=BEST):
    with contextlib.closing(state_directory.open_for_reading(state)) as store:
        kept, scores = record.load(store), store.scores()
    return export_model(state, kept, scores, arch=arch, out=out)


def best_of(state):
    """Give (arch, job, values) of the most accurate training, by the tables themselves."""
    rows = query(state, "select arch, job_id, [values] from evaluations where kind = 'train'")
    found = [(arch, job, json.loads(values)) for arch, job, values in rows]
    return max(found, key=lambda one: one[2]["accuracy"])


def sums(state, where="1"):
    """Add up (kWh, grams) of the ledger's rows by hand, of each interval the last revision alone."""
    key = "work, job_id, attempt, slot_id, device, start"
    rows = query(
        state,
        f"select {key}, energy_joules, grams_per_kwh from ledger where {where} order by revision",  # noqa: S608
    )
    last = {row[:6]: row[6:] for row in rows}.values()
    kwh = [joules / JOULES_PER_KWH for joules, _ in last]
    return math.fsum(kwh), math.fsum(one * grams for one, (_, grams) in zip(kwh, last, strict=True))


def card_of(out):
    """Give the metadata and the text of a model card."""
    _, metadata, text = (out / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_the_best_is_exported_with_what_is_known_of_it(state, exported):
    arch, job, values = best_of(state)
    about = json.loads((exported / "architecture.json").read_bytes())
    assert (about["architecture"], about["training"]["job"], about["results"]) == (arch, job, values)
    scored = json.loads(
        query(state, "select [values] from evaluations where kind = 'score' and arch = ?", arch)[0][0]
    )
    spent = {
        "name": "flops",
        "value": scored["inference_flops"] / 1e6,
        "unit": "M multiply-accumulates of one image",
    }
    assert about["inference_cost"] == spent
    assert {**about["proxies"], "inference_flops": values["flops"]} == scored
    assert {path.name for path in exported.iterdir()} >= {"model.pt", "architecture.json", "README.md"}


def test_the_card_s_emissions_are_the_ledger_s(state, exported):
    arch, job, values = best_of(state)
    kwh, grams = sums(state, f"job_id = '{job}'")
    whole_kwh, whole_grams = sums(state)
    assert 0 < grams < whole_grams
    about = json.loads((exported / "architecture.json").read_bytes())["emissions"]
    assert about["training"] == pytest.approx({"energy_kwh": kwh, "emissions_grams": grams}, rel=1e-12)
    assert about["search"] == pytest.approx(
        {"energy_kwh": whole_kwh, "emissions_grams": whole_grams}, rel=1e-12
    )
    metadata, text = card_of(exported)
    carbon = metadata["co2_eq_emissions"]
    assert carbon["emissions"] == about["training"]["emissions_grams"]
    assert isinstance(carbon["emissions"], float)
    assert carbon["training_type"] == "pre-training"
    assert carbon["geographical_location"] == "grid zone GB"
    assert carbon["hardware_used"] == "CPU"
    assert "10 W per busy CPU core (model)" in carbon["source"]
    assert f"The training is {grams / whole_grams:.1%} of what the search emitted." in text
    [result] = metadata["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": values["accuracy"]}]
    assert arch in text


def test_the_card_s_own_lines_use_the_model_as_it_was_evaluated(state, exported, monkeypatch):
    task = load_task(TaskSettings(), torch.device("cpu"))
    code = re.search(r"```python\n(.*?)```", card_of(exported)[1], re.DOTALL).group(1)
    monkeypatch.chdir(exported)
    names = {"pixels": task.validation.images}
    exec(code, names)  # noqa: S102 -- what the card tells its reader to do
    right = (names["logits"].argmax(1) == task.validation.labels).sum().item()
    assert right / len(task.validation) == best_of(state)[2]["accuracy"]


@pytest.mark.skipif(bool(export.missing_for_onnx()), reason="the extra `export` is not installed")
def test_onnx_is_as_accurate_as_the_training_was(state, exported):
    import onnxruntime

    task = load_task(TaskSettings(), torch.device("cpu"))
    images = task.normalise(task.validation.images).numpy()
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (logits,) = session.run(["logits"], {"images": images})
    right = (logits.argmax(1) == task.validation.labels.numpy()).sum()
    assert right / len(task.validation) == best_of(state)[2]["accuracy"]


def test_without_the_extra_all_else_is_written(state, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ONNX_NEEDS", ("no_such_package",))
    worse = min(query(state, "select arch, [values] from evaluations where kind = 'train'"), key=accuracy)[0]
    done = exporting(state, tmp_path / "out", worse)
    said = "no_such_package not installed: pip install 'carbon-nas[export]'"
    assert (done.arch, done.without_onnx) == (worse, said)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.pt",
        "architecture.json",
        "README.md",
    }
    assert "model.onnx" not in card_of(tmp_path / "out")[1]
    assert export.load(tmp_path / "out")[1]["architecture"] == worse


@pytest.mark.skipif(bool(export.missing_for_onnx()), reason="the extra `export` is not installed")
def test_a_network_that_cannot_be_onnx_is_written_without(state, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)  # which no translation keeps
    done = exporting(state, tmp_path / "out")
    assert done.without_onnx.startswith("the ONNX network differs from PyTorch's by")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*done.files}
    assert {*done.files} == {"model.pt", "architecture.json", "README.md"}
    assert "model.onnx" not in card_of(tmp_path / "out")[1]


def accuracy(row):
    return json.loads(row[1])["accuracy"]


def test_what_is_not_known_is_left_out_and_not_zero(state, changed, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ONNX_NEEDS", ("no_such_package",))
    _, job, _ = best_of(state)
    without = changed(f"delete from ledger where job_id = '{job}'")  # noqa: S608
    exporting(without, tmp_path / "out")
    metadata, text = card_of(tmp_path / "out")
    assert metadata["co2_eq_emissions"].keys() == {"source", "training_type", "geographical_location"}
    assert "this model's training" not in text
    assert "the whole search" in text
    assert json.loads((tmp_path / "out/architecture.json").read_bytes())["emissions"]["training"] == {}


def test_an_architecture_that_is_not_trained_gets_the_nearest_named(forked_cli, state, tmp_path):
    arch, _, _ = best_of(state)
    done = forked_cli("export", "--state-dir", state, "--out", tmp_path / "out", "--arch", arch[:-3])
    assert (done.returncode, done.stdout) == (EX_CONFIG, "")
    assert f"did you mean {arch!r}?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError, match="no finished training is of 'foo'; 2 are"):
        exporting(state, tmp_path / "out", "foo")


def test_nothing_is_written_where_there_is_nothing_to_export(state, changed, tmp_path):
    _, job, _ = best_of(state)
    copy = changed()
    shutil.rmtree(copy / "jobs" / job / "checkpoints")
    with pytest.raises(ExportError, match="no checkpoint of the training's end"):
        exporting(copy, tmp_path / "out")
    shutil.rmtree(copy / "jobs" / job)
    with pytest.raises(ExportError, match="the weights of its training are gone"):
        exporting(copy, tmp_path / "out")
    changed("delete from evaluations where kind = 'train'")
    with pytest.raises(StoreError, match="no training has finished yet"):
        exporting(copy, tmp_path / "out")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ExportError, match="holds something else"):
        exporting(state, tmp_path)
    assert not Path(tmp_path / "out").exists()
