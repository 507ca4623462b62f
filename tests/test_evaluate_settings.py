import re
import subprocess
import sys

import pytest

from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate.data import LOADERS
from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.settings import (
    DATA_SETS,
    PROXIES,
    ScoreSettings,
    TaskSettings,
    TrainSettings,
    require_data,
)
from carbon_nas.plugins import check_options


def test_every_name_that_is_accepted_is_implemented():
    assert set(PROXIES) == set(TABLE)
    assert set(DATA_SETS) == set(LOADERS)


@pytest.mark.parametrize(
    ("settings", "given", "says"),
    [
        (TaskSettings, {"dataset": "fashion"}, "dataset: no data set named 'fashion' (did you mean"),
        (TaskSettings, {"dataset": "cifar10"}, "set data_dir to the folder that holds cifar-10-batches-py"),
        (TaskSettings, {"datset": "fashion16"}, "datset: unknown key (did you mean 'dataset'?)"),
        (ScoreSettings, {"proxies": ["synflo"]}, "no proxy named 'synflo' (did you mean 'synflow'?)"),
        (ScoreSettings, {"proxies": []}, "name at least one proxy"),
        (ScoreSettings, {"batch_size": 1}, "batch_size"),
        (TrainSettings, {"epochs": 0}, "epochs"),
        (TrainSettings, {"epochs": "many"}, "epochs"),
        (TrainSettings, {"learning_rate": float("nan")}, "learning_rate"),
        (TrainSettings, {"momentum": 0}, "momentum"),
        (TrainSettings, {"precision": "float8"}, "precision"),
        (TrainSettings, {"checkpoint_seconds": -1}, "checkpoint_seconds"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, given, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        check_options(settings, given, key="section")


def test_settings_survive_json(tmp_path):
    for made in (
        TaskSettings(dataset="cifar10", data_dir=tmp_path),
        ScoreSettings(proxies=("naswot", "params")),
        TrainSettings(epochs=3, augment=True),
    ):
        assert check_options(type(made), made.model_dump(mode="json"), key="x") == made


def test_a_missing_data_folder_says_what_to_put_where(tmp_path):
    with pytest.raises(ConfigurationError, match=r"data_dir.*no folder .*cifar-100-python.*cifar100"):
        require_data(TaskSettings(dataset="cifar100", data_dir=tmp_path))
    (tmp_path / "cifar-100-python").mkdir()
    require_data(TaskSettings(dataset="cifar100", data_dir=tmp_path))
    require_data(TaskSettings())


def test_what_the_daemon_needs_of_this_room_does_not_import_torch():
    code = (
        "import sys, carbon_nas.evaluate.settings, carbon_nas.evaluate.protocol, carbon_nas.evaluate.attempt;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
