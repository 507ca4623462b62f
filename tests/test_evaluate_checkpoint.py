import json

import pytest
import torch

from carbon_nas.errors import CheckpointError
from carbon_nas.evaluate import checkpoint


def state_of(step, attempt=1, spec_hash="mine", epoch=0):
    weights = {"weight": torch.full((3,), float(step))}
    return {"network": weights, "spec_hash": spec_hash, "attempt": attempt, "step": step, "epoch": epoch}


def save_steps(folder, *steps, **fields):
    for step in steps:
        checkpoint.save(folder, state_of(step, **fields))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_are_kept(tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4)
    assert names(tmp_path) == [f"000001-00000000{n}-000000.{kind}" for n in (3, 4) for kind in ("json", "pt")]
    assert checkpoint.load_newest(tmp_path, "mine")["network"]["weight"].tolist() == [4.0] * 3


def test_there_is_none_at_first(tmp_path):
    assert checkpoint.load_newest(tmp_path / "none", "mine") is None


def test_the_manifest_says_what_it_is(tmp_path):
    save_steps(tmp_path, 7, attempt=2, epoch=3)
    manifest = json.loads((tmp_path / "000002-000000007-000003.json").read_text())
    assert {key: manifest[key] for key in ("spec_hash", "attempt", "step", "epoch", "torch_version")} == {
        "spec_hash": "mine",
        "attempt": 2,
        "step": 7,
        "epoch": 3,
        "torch_version": str(torch.__version__),
    }
    assert len(manifest["sha256"]) == 64


def damage_bytes(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda stem: damage_bytes(stem.with_suffix(".pt")),
        lambda stem: stem.with_suffix(".pt").write_bytes(b""),
        lambda stem: stem.with_suffix(".pt").unlink(),
        lambda stem: stem.with_suffix(".json").write_text('{"spec_ha'),
        lambda stem: stem.with_suffix(".json").unlink(),
    ],
)
def test_a_damaged_one_is_passed_over(tmp_path, damage):
    save_steps(tmp_path, 1, 2)
    damage(tmp_path / "000001-000000002-000000")
    assert checkpoint.load_newest(tmp_path, "mine")["step"] == 1


def test_after_a_fall_back_the_new_ones_count_and_the_damaged_goes(tmp_path):
    save_steps(tmp_path, 10, 20)
    damage_bytes(tmp_path / "000001-000000020-000000.pt")
    save_steps(tmp_path, 11, attempt=2)
    assert checkpoint.load_newest(tmp_path, "mine")["step"] == 11
    save_steps(tmp_path, 12, attempt=2)
    assert len(names(tmp_path)) == 4
    assert checkpoint.load_newest(tmp_path, "mine")["step"] == 12


def test_if_all_are_damaged_there_is_none(tmp_path):
    save_steps(tmp_path, 1, 2)
    for path in tmp_path.glob("*.pt"):
        damage_bytes(path)
    assert checkpoint.load_newest(tmp_path, "mine") is None


def test_another_jobs_is_refused(tmp_path):
    save_steps(tmp_path, 1, spec_hash="theirs")
    with pytest.raises(CheckpointError, match="of another job"):
        checkpoint.load_newest(tmp_path, "mine")


def test_an_epoch_validated_at_the_same_step_is_newer(tmp_path):
    save_steps(tmp_path, 5, epoch=0)
    save_steps(tmp_path, 5, epoch=1)
    assert checkpoint.load_newest(tmp_path, "mine")["epoch"] == 1


def test_what_a_crash_left_behind_is_cleared_away(tmp_path):
    (tmp_path / ".000001-000000001-000000.pt.77.tmp").write_bytes(b"half")
    (tmp_path / "000001-000000001-000000.pt").write_bytes(b"no manifest")
    save_steps(tmp_path, 2)
    assert names(tmp_path) == ["000001-000000002-000000.json", "000001-000000002-000000.pt"]
