"""Filling in the past: the newest first, in pieces, and never in the way of the present."""

import asyncio
from datetime import UTC, datetime, timedelta

from carbon_nas.grid.backfill import AGAIN_AFTER, PIECE, Backfill

NOW = datetime(2023, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Past:
    """Answers until it is told not to, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []
        self.answers = True

    async def fetch(self, start: datetime, end: datetime) -> bool:
        self.asked.append((start, end))
        return self.answers


def go_on(backfill: Backfill, now: datetime = NOW, days: int = 100) -> None:
    asyncio.run(backfill.go_on(now, NOW - 7 * DAY, now - days * DAY))


def test_pieces_join_from_the_known_past_back_to_the_goal() -> None:
    past = Past()
    go_on(Backfill(past.fetch))
    assert past.asked[0][1] == NOW - 7 * DAY
    assert past.asked[-1][0] == NOW - 100 * DAY
    for newer, older in zip(past.asked, past.asked[1:], strict=False):
        assert older[1] == newer[0]
    assert all(end - start <= PIECE for start, end in past.asked)


def test_what_was_fetched_is_not_asked_for_again() -> None:
    past = Past()
    backfill = Backfill(past.fetch)
    go_on(backfill)
    asked = len(past.asked)
    go_on(backfill, NOW + DAY)
    assert len(past.asked) == asked


def test_where_nobody_can_tell_it_asks_again_a_day_later_from_where_it_was() -> None:
    past = Past()
    backfill = Backfill(past.fetch)
    past.answers = False
    go_on(backfill)
    go_on(backfill, NOW + AGAIN_AFTER / 2)
    assert len(past.asked) == 1
    past.answers = True
    go_on(backfill, NOW + AGAIN_AFTER)
    assert past.asked[1] == past.asked[0]


def test_a_past_that_is_known_needs_no_question() -> None:
    past = Past()
    go_on(Backfill(past.fetch), days=7)
    assert past.asked == []
