import json
import math
from collections import Counter
from itertools import product
from random import Random

import pytest
import torch
from search_threads import one_thread  # noqa: F401 -- autouse

from carbon_nas.errors import SearchError
from carbon_nas.model import Observation
from carbon_nas.search.controllers.lstm import LstmPolicy
from carbon_nas.search.controllers.reinforce import Baseline, Reinforce, ReinforceOptions
from carbon_nas.testing.controllers import observed
from carbon_nas.testing.spaces import DigitOptions, DigitSpace

SPACE = DigitSpace(DigitOptions((2, 3, 4)))
OPTIONS = ReinforceOptions(hidden_units=8, batch=4)


def controller(seed: int = 1, options: ReinforceOptions = OPTIONS) -> Reinforce:
    return Reinforce(options, space=SPACE, seed=seed)


def lessons(count: int, seed: int = 5) -> list[Observation]:
    rng = Random(seed)
    return [observed(SPACE.sample(rng), rng.random()) for _ in range(count)]


def weights(one: Reinforce) -> dict[str, torch.Tensor]:
    """Give the weights and Adam's moments."""
    moments = one._policy._optimizer.state_dict()["state"]
    flat = {f"{i}.{name}": value for i, values in moments.items() for name, value in values.items()}
    return {**one._policy._network.state_dict(), **flat}


def equal(one: Reinforce, other: Reinforce) -> bool:
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(mine[name].equal(theirs[name]) for name in mine)


def policy(**settings: float) -> LstmPolicy:
    return LstmPolicy(
        **{
            "choices": (2, 3, 4),
            "hidden_units": 8,
            "learning_rate": 0.01,
            "entropy": 0.0,
            "seed": 1,
            **settings,
        }
    )


def probabilities(of: LstmPolicy) -> dict[tuple[int, ...], float]:
    """Multiply out the probability of every architecture, one decision at a time."""
    found = {}
    for choices in product(range(2), range(3), range(4)):
        total = 0.0
        for i, choice in enumerate(choices):
            tokens = of._network.tokens(torch.tensor([choices[:i]], dtype=torch.long).reshape(1, i))
            total += of._network(tokens)[-1][0, choice].item()
        found[choices] = math.exp(total)
    return found


def test_the_policy_is_a_distribution_and_is_sampled() -> None:
    lstm, rng = policy(), Random(3)
    for _ in range(30):  # away from uniform
        lstm.update([(0, 2, 3), (1, 0, 0)], [1.0, -1.0])
    expected = probabilities(lstm)
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)
    assert max(expected.values()) > 5 / 24
    drawn = Counter(lstm.sample([[rng.random() for _ in range(3)] for _ in range(20_000)]))
    for choices, share in expected.items():
        assert abs(drawn[choices] / 20_000 - share) < 5 * math.sqrt(share * (1 - share) / 20_000) + 1e-4


def test_an_update_follows_the_sign_of_the_advantage() -> None:
    lstm = policy()
    before = probabilities(lstm)
    lstm.update([(0, 2, 3), (1, 0, 0)], [1.0, -1.0])
    after = probabilities(lstm)
    assert after[0, 2, 3] > before[0, 2, 3]
    assert after[1, 0, 0] < before[1, 0, 0]


def test_the_entropy_bonus_keeps_the_policy_open() -> None:
    peaks = []
    for entropy in (0.0, 0.5):
        lstm = policy(entropy=entropy)
        for _ in range(60):
            lstm.update([(0, 2, 3)], [1.0])
        peaks.append(max(probabilities(lstm).values()))
    assert peaks[0] > 0.9 > peaks[1]


def test_the_baseline_is_of_earlier_rewards() -> None:
    baseline = Baseline(decay=0.5)
    first = baseline.advantages([1.0, 3.0])  # centre 2, variance 1
    assert first == [-1.0, 1.0]
    second = baseline.advantages([6.0])  # centre still 2; variance (1 + 16) / 2
    assert second == [pytest.approx(4 / math.sqrt(8.5))]
    assert (baseline.mean, baseline.variance) == (4.0, 8.5)
    assert Baseline(decay=0.9).advantages([0.7]) == [0.0]


def test_advantages_do_not_depend_on_the_scale_of_rewards() -> None:
    small, large = Baseline(0.9), Baseline(0.9)
    for batch in ([0.1, 0.5], [0.2, 0.9], [0.4, 0.4]):
        found = large.advantages([1000 * reward + 7 for reward in batch])
        assert found == pytest.approx(small.advantages(batch))


def test_one_at_a_time_or_together_is_the_same() -> None:
    together, singly, unevenly = controller(), controller(), controller()
    together.observe(lessons(10))
    for lesson in lessons(10):
        singly.observe([lesson])
    unevenly.observe(lessons(10)[:7])
    unevenly.observe(lessons(10)[7:])
    assert equal(together, singly)
    assert equal(together, unevenly)
    assert together.propose(20) == singly.propose(20) == unevenly.propose(20)


def test_it_waits_for_a_batch() -> None:
    waiting, fresh = controller(), controller()
    waiting.observe(lessons(3))
    assert equal(waiting, fresh)
    waiting.observe(lessons(4)[3:])
    assert not equal(waiting, fresh)


def test_a_saved_run_goes_on_with_the_same_weights() -> None:
    original, revived = controller(), controller(seed=2)
    original.propose(7)
    original.observe(lessons(10))  # two of them wait
    revived.load_state_dict(json.loads(json.dumps(original.state_dict(), allow_nan=False)))
    assert equal(original, revived)
    for each in (original, revived):
        each.observe(lessons(9, seed=6))
    assert equal(original, revived)
    assert original.propose(50) == revived.propose(50)


def test_it_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    controller().propose(5)
    assert torch.rand(3).equal(expected)


def test_proposals_do_not_depend_on_how_many_are_asked_for() -> None:
    whole, parts = controller(), controller()
    assert whole.propose(12) == [*parts.propose(1), *parts.propose(8), *parts.propose(3)]


def test_exploration_reaches_what_a_settled_policy_does_not() -> None:
    seen = {}
    for share in (0.0, 0.2):
        settled = controller(
            options=ReinforceOptions(hidden_units=8, batch=2, entropy=0.0, exploration=share)
        )
        for _ in range(300):
            settled.observe([observed("1-2-3", 1.0), observed("0-0-0", 0.0)])
        seen[share] = len(set(settled.propose(200)))
    assert seen[0.0] < 5
    assert seen[0.2] > 15  # of 24


@pytest.mark.parametrize(
    ("lesson", "says"),
    [(observed("9-9-9", 0.5), "not of this space"), (observed("0-0-0", math.nan), "reward of 0-0-0 is nan")],
)
def test_a_wrong_observation_teaches_nothing(lesson: Observation, says: str) -> None:
    one, untouched = controller(), controller()
    with pytest.raises(ValueError, match=says):
        one.observe([*lessons(6), lesson])
    assert one.state_dict()["pending"] == []
    assert equal(one, untouched)


def test_a_state_of_another_search_is_refused() -> None:
    state = controller().state_dict()
    elsewhere = Reinforce(OPTIONS, space=DigitSpace(DigitOptions((2, 2))), seed=1)
    with pytest.raises(SearchError, match=r"choices = \[2, 3, 4\], this study \[2, 2\]"):
        elsewhere.load_state_dict(state)
    with pytest.raises(SearchError, match="hidden_units = 8, this study 16"):
        controller(options=ReinforceOptions(hidden_units=16)).load_state_dict(state)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_units": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"entropy": -1.0},
        {"baseline_decay": 1.0},
        {"exploration": 1.5},
        {"learning_rate": math.nan},
    ],
)
def test_wrong_options_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReinforceOptions(**wrong)
