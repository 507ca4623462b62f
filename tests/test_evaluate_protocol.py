import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.errors import ConfigurationError, JobError
from carbon_nas.evaluate import protocol
from carbon_nas.evaluate.protocol import Outcome, Progress
from carbon_nas.model import Evaluation, JobKind, JobSpec, RunState


def spec_in(directory, **changes):
    values = {
        "job_id": "job-1",
        "kind": JobKind.SCORE,
        "attempt": 3,
        "archs": ("a", "b"),
        "space": "nasbench201",
        "directory": directory,
        "seed": 7,
        "space_options": {"channels": 4},
        "train": {"epochs": 2, "learning_rate": 0.05, "precision": "auto"},
    }
    return JobSpec(**{**values, **changes})


def evaluation(arch, **values):
    return Evaluation(arch, JobKind.SCORE, values, 1.5, 1.25)


def test_a_specification_survives_and_sets_the_fence(tmp_path):
    spec = spec_in(tmp_path / "new" / "job-1")
    path = protocol.write_spec(spec)
    assert path == tmp_path / "new" / "job-1" / f"spec-{spec.attempt}.json"
    assert protocol.read_spec(path) == spec
    assert protocol.read_attempt(spec.directory) == 3


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, JobError, "cannot read"),
        ("{", ConfigurationError, "spec.json"),
        ('{"job_id": 3}', ConfigurationError, "spec.json"),
    ],
)
def test_what_is_no_specification_is_refused(tmp_path, content, error, says):
    path = tmp_path / "spec.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=says):
        protocol.read_spec(path)


def test_scores_that_are_no_finite_numbers_survive(tmp_path):
    protocol.append_result(tmp_path, 1, evaluation("a", naswot=-math.inf, x=math.inf, y=math.nan, z=0.1))
    json.loads((tmp_path / "results.jsonl").read_text(), parse_constant=pytest.fail)  # JSON for any reader
    values = protocol.read_results(tmp_path)[0].values
    assert (values["naswot"], values["x"], values["z"]) == (-math.inf, math.inf, 0.1)
    assert math.isnan(values["y"])


@given(values=st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False)), arch=st.text(min_size=1))
def test_any_result_survives(tmp_path_factory, values, arch):
    directory = tmp_path_factory.mktemp("job")
    made = Evaluation(arch, JobKind.TRAIN, values, 0.1, 0.2)
    protocol.append_result(directory, 1, made)
    assert protocol.read_results(directory) == (made,)


def test_a_torn_line_is_skipped_and_does_not_swallow_the_next(tmp_path):
    protocol.append_result(tmp_path, 1, evaluation("a", p=1.0))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"attempt": 1, "arch": "b", "val')
    assert [found.arch for found in protocol.read_results(tmp_path)] == ["a"]
    protocol.append_result(tmp_path, 2, evaluation("c", p=2.0))
    assert [found.arch for found in protocol.read_results(tmp_path)] == ["a", "c"]


def test_an_architecture_counts_once(tmp_path):
    protocol.append_result(tmp_path, 1, evaluation("a", p=1.0))
    protocol.append_result(tmp_path, 2, evaluation("a", p=2.0))
    assert protocol.read_results(tmp_path) == (evaluation("a", p=1.0),)


def test_the_newest_progress_of_the_attempt_counts(tmp_path):
    assert protocol.last_progress(tmp_path, 1) is None
    for attempt, fraction in ((1, 0.1), (1, 0.4), (2, 0.5), (1, 0.45)):
        protocol.append_progress(tmp_path, Progress(attempt, 99, 2.0, 3.0, fraction))
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write('{"attempt": 2, "fraction": 0.99')
    assert protocol.last_progress(tmp_path, 2) == Progress(2, 99, 2.0, 3.0, 0.5)
    assert protocol.last_progress(tmp_path, 1) == Progress(1, 99, 2.0, 3.0, 0.45)
    assert protocol.last_progress(tmp_path) == Progress(1, 99, 2.0, 3.0, 0.45)
    assert protocol.last_progress(tmp_path, 3) is None


def test_progress_is_found_at_the_end_of_a_long_file(tmp_path):
    for step in range(1000):
        protocol.append_progress(tmp_path, Progress(1, 99, 0.0, float(step), step / 1000, step))
    assert (tmp_path / "progress.jsonl").stat().st_size > 2 * protocol.TAIL_BYTES
    assert protocol.last_progress(tmp_path, 1) == Progress(1, 99, 0.0, 999.0, 0.999, 999)


def test_the_status_of_an_attempt(tmp_path):
    assert protocol.read_status(tmp_path, 1).state is RunState.RUNNING
    protocol.append_progress(tmp_path, Progress(1, 99, 2.0, 3.5, 0.25))
    protocol.append_result(tmp_path, 1, evaluation("a", p=1.0))
    status = protocol.read_status(tmp_path, 1)
    assert (status.state, status.progress, status.cpu_seconds) == (RunState.RUNNING, 0.25, 1.5)
    protocol.write_outcome(tmp_path, 1, Outcome(RunState.SUSPENDED, "asked to stop", 2.0, 4.0, 0.5))
    status = protocol.read_status(tmp_path, 1)
    assert (status.state, status.progress, status.cpu_seconds) == (RunState.SUSPENDED, 0.5, 2.0)
    assert status.evaluations == (evaluation("a", p=1.0),)
    assert protocol.read_status(tmp_path, 2).state is RunState.RUNNING


def test_what_is_written_atomically_leaves_nothing_else(tmp_path):
    protocol.write_atomically(tmp_path / "a", b"one")
    protocol.write_atomically(tmp_path / "a", b"two")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"two"
