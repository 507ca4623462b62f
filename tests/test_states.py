"""The life of a job: every step there is, and every one there is not."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from fakes import make_job

from carbon_nas.errors import InvalidTransition
from carbon_nas.model import JobState, Transition
from carbon_nas.states import TRANSITIONS, mermaid, transition

NOW = datetime(2023, 6, 1, tzinfo=UTC)
ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"

ALLOWED = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("running", "done"),
    ("running", "failed"),
    ("running", "suspended"),
    ("running", "queued"),
    ("suspended", "running"),
    ("suspended", "cancelled"),
}
ENDS = {"done", "failed", "cancelled"}


@pytest.mark.parametrize(("source", "target"), list(product(JobState, JobState)), ids=str)
def test_every_pair_of_states(source, target):
    job = make_job("j", state=source, progress=0.4, attempt=3)
    if (source, target) in ALLOWED:
        moved, step = transition(job, target, NOW, "because")
        assert moved == replace(job, state=target)
        assert step == Transition("j", source, target, NOW, "because")
    else:
        before = replace(job)
        with pytest.raises(InvalidTransition, match=rf"j cannot go from {source} to {target} \(because\)"):
            transition(job, target, NOW, "because")
        assert job == before


def test_the_table_has_a_row_for_every_state():
    assert set(TRANSITIONS) == set(JobState)
    assert {source for source, targets in TRANSITIONS.items() if not targets} == ENDS


def test_the_diagram_shows_the_table_and_nothing_else():
    first, begin, *lines = mermaid().splitlines()
    assert (first, begin) == ("stateDiagram-v2", "    [*] --> queued")
    drawn = {tuple(re.fullmatch(r" {4}(\S+) --> (\S+)", line).groups()) for line in lines}
    assert drawn == ALLOWED | {(end, "[*]") for end in ENDS}
    assert len(lines) == len(drawn)


def test_the_documentation_holds_the_generated_diagram():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert f"```mermaid\n{mermaid()}\n```" in text, f"put the output of states.mermaid() into {ARCHITECTURE}"
