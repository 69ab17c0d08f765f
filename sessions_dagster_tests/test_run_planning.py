"""How the sensor plans runs: days per run, run keys, the folders to check in a tick, and the cursor."""

import json
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions_dagster.defs.run_planning import (
    FIRST_PAUSE,
    MAX_DAYS_PER_RUN,
    NEW_DAYS_PER_TICK,
    OLDER_DAYS_PER_TICK,
    RECENT_DAYS,
    FailedContent,
    Memory,
    Wanted,
    Why,
    plan_runs,
    reasons_line,
)
from sessions_dagster.model.dates import day_ranges, days_between, spans

DAY = date(2025, 9, 20)
NOON = datetime(2025, 9, 21, 12, tzinfo=UTC)

some_days = st.sets(st.dates(date(2025, 1, 1), date(2025, 6, 30)))


def first_days(count: int) -> list[date]:
    return days_between(date(2024, 1, 1), date(2024, 1, 1) + timedelta(days=count - 1))


def wanted(days: Collection[date], why: Why = Why.NEW) -> dict[date, Wanted]:
    return dict.fromkeys(days, Wanted("content", landing=0, why=why))


def known(days: Collection[date]) -> Memory:
    memory = Memory()
    for day in days:
        memory.finish(day)
    return memory


def run_key(content: Wanted) -> str:
    (plan,) = plan_runs({DAY: content})
    return plan.run_key


@settings(deadline=None)
@given(some_days)
def test_runs_cover_exactly_the_wanted_days(days: set[date]) -> None:
    plans = plan_runs(wanted(days))
    assert [day for plan in plans for day in plan.days] == sorted(days)


@settings(deadline=None)
@given(some_days)
def test_the_days_of_a_run_are_consecutive(days: set[date]) -> None:
    assert all(list(plan.days) == days_between(plan.first, plan.last) for plan in plan_runs(wanted(days)))


@settings(deadline=None)
@given(some_days)
def test_consecutive_days_are_in_one_run(days: set[date]) -> None:
    plans = plan_runs(wanted(days))
    holes = [after.first - before.last > timedelta(days=1) for before, after in pairwise(plans)]
    full = [len(before.days) == MAX_DAYS_PER_RUN for before in plans[:-1]]
    assert all(hole or is_full for hole, is_full in zip(holes, full, strict=True))


def test_no_run_is_longer_than_the_maximum() -> None:
    plans = plan_runs(wanted(first_days(2 * MAX_DAYS_PER_RUN + 1)))
    assert [len(plan.days) for plan in plans] == [MAX_DAYS_PER_RUN, MAX_DAYS_PER_RUN, 1]


def test_a_day_to_be_run_alone_has_its_own_run() -> None:
    days = first_days(3)
    plans = plan_runs(wanted(days) | {days[1]: Wanted("content", landing=0, is_alone=True)})
    assert [list(plan.days) for plan in plans] == [[day] for day in days]


def test_what_has_landed_shares_no_run_with_what_is_to_land() -> None:
    days = first_days(6)
    plans = plan_runs(wanted(days) | wanted(days[2:4], Why.NOT_APPLIED) | wanted(days[4:], Why.CHANGED))
    assert [(list(plan.days), plan.is_landed) for plan in plans] == [
        (days[:2], False),
        (days[2:4], True),
        (days[4:], False),
    ]


def test_a_run_says_why_its_days_are_requested() -> None:
    days = first_days(3)
    (plan,) = plan_runs(wanted(days[:2], Why.CHANGED) | wanted(days[2:]))
    assert plan.why == (Why.NEW, Why.CHANGED)


def test_the_same_contents_after_the_same_landings_have_the_same_run_key() -> None:
    days = first_days(3)
    assert plan_runs(wanted(days)) == plan_runs(wanted(days[::-1]))


def test_another_content_has_another_run_key() -> None:
    assert run_key(Wanted("a", landing=1)) != run_key(Wanted("b", landing=1))


def test_the_same_content_after_another_landing_has_another_run_key() -> None:
    assert run_key(Wanted("a", landing=1)) != run_key(Wanted("a", landing=2))


@pytest.mark.parametrize("changed", [Wanted("b", landing=0), Wanted("content", landing=1)])
def test_one_changed_day_changes_the_run_key_of_a_range(changed: Wanted) -> None:
    days = wanted(first_days(3))
    ((before,), (after,)) = plan_runs(days), plan_runs(days | {first_days(2)[1]: changed})
    assert before.run_key != after.run_key


def test_run_keys_are_short() -> None:
    assert max(len(plan.run_key) for plan in plan_runs(wanted(first_days(300)))) < 50


def test_an_unknown_folder_is_checked_in_the_next_tick() -> None:
    days = first_days(300)
    hole = days[100]
    memory = known(set(days) - {hole})
    assert hole in memory.take_turns(days)


def test_the_newest_folders_are_checked_at_every_tick() -> None:
    days = first_days(300)
    memory = known(days)
    assert all(set(days[-RECENT_DAYS:]) <= set(memory.take_turns(days)) for _ in range(30))


def test_every_folder_is_checked_within_the_documented_number_of_ticks() -> None:
    days = first_days(300)
    memory = known(days)
    turns = [memory.take_turns(days) for _ in range(len(days) // OLDER_DAYS_PER_TICK)]
    assert {day for turn in turns for day in turn} == set(days)


def test_a_tick_checks_few_of_many_known_folders() -> None:
    days = first_days(3000)
    memory = known(days)
    assert all(len(memory.take_turns(days)) == RECENT_DAYS + OLDER_DAYS_PER_TICK for _ in range(10))


def test_a_first_tick_on_very_many_folders_checks_the_oldest() -> None:
    days = first_days(3000)
    assert Memory().take_turns(days)[:-RECENT_DAYS] == days[: NEW_DAYS_PER_TICK - RECENT_DAYS]


def test_the_newest_folders_are_checked_for_any_number_of_incomplete_ones() -> None:
    days = first_days(NEW_DAYS_PER_TICK + 1)
    assert Memory().take_turns(days)[-RECENT_DAYS:] == days[-RECENT_DAYS:]


def test_a_day_whose_run_failed_is_checked_at_every_tick() -> None:
    days = first_days(300)
    memory = known(days)
    memory.give_up(days[3], FailedContent("bad", "run"))
    assert all(days[3] in memory.take_turns(days) for _ in range(30))


def test_a_cursor_is_read_as_it_was_written() -> None:
    days = first_days(50)
    memory = known(days)
    memory.reopen(days[20])
    memory.give_up(days[10], FailedContent("bad", "run"))
    memory.try_again(days[40], FailedContent("good", "run"), NOON)
    memory.alone[days[20]] = "content"
    memory.applied[days[30]] = 1_767_225_600_000
    for plan in plan_runs(wanted([DAY])):
        memory.ask(plan)
    memory.take_turns(days)
    assert Memory.from_cursor(memory.to_cursor()) == memory


def test_a_cursor_of_a_version_that_gave_up_every_failed_day_is_read() -> None:
    cursor = json.loads(known(first_days(3)).to_cursor())
    del cursor["again"]
    assert Memory.from_cursor(json.dumps(cursor)) == known(first_days(3))


def test_the_pauses_of_a_content_begin_anew_with_another_one() -> None:
    memory = Memory()
    pauses = []
    for fingerprint in ("first", "first", "first", "other"):
        memory.try_again(DAY, FailedContent(fingerprint, "run"), NOON)
        pauses.append(memory.again[DAY].not_before - NOON)
    assert pauses == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, FIRST_PAUSE]


def test_each_run_in_place_of_a_failed_one_has_a_run_key_of_its_own() -> None:
    runs = ["", "first run", "other run"]
    assert len({run_key(Wanted("content", landing=1, after=run)) for run in runs}) == 3


@pytest.mark.parametrize("cursor", [None, ""])
def test_without_a_cursor_the_memory_is_empty(cursor: str | None) -> None:
    assert Memory.from_cursor(cursor) == Memory()


@pytest.mark.parametrize("cursor", ["2025-09-20", "[]", "{}", '{"known": 1}', '{"known": [["a", "b"]]}'])
def test_an_unreadable_cursor_is_an_error(cursor: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Memory.from_cursor(cursor)


def test_the_cursor_stays_small_over_ten_years() -> None:
    assert len(known(first_days(3650)).to_cursor()) < 1000


def test_a_day_without_a_folder_is_forgotten() -> None:
    days = first_days(3)
    memory = known(days)
    memory.give_up(days[1], FailedContent("bad", "run"))
    memory.try_again(days[0], FailedContent("good", "run"), NOON)
    memory.applied[days[0]] = 1
    memory.forget_all_but(days[2:])
    assert memory == known(days[2:])


@settings(deadline=None)
@given(some_days)
def test_spans_cover_exactly_the_days(days: set[date]) -> None:
    assert {day for first, last in spans(days) for day in days_between(first, last)} == days


def test_days_are_shown_as_ranges() -> None:
    assert day_ranges([*first_days(3), DAY]) == ["2024-01-01...2024-01-03", "2025-09-20"]


def test_only_the_first_of_many_names_are_shown() -> None:
    assert reasons_line({"junk": list("abcdef"), "empty": [], "late": ["g"]}) == "junk: a, b, c and 3 more; late: g"
