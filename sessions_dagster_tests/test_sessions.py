"""The table `sessions` follows `sessionized_events`: the same sessions, whatever was committed there meanwhile."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.core.contract import SessionRules
from sessions_dagster.core.maintenance import compact
from sessions_dagster.core.session_quality import SessionsFinding, compare_sessions
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

D18, D19, D20, D21 = (date(2025, 9, day) for day in (18, 19, 20, 21))


def u(time: str, event: str = "a", day: int = 20, user: str = "ada") -> Event:
    return Event(user, event, "idea", datetime.fromisoformat(f"2025-09-{day} {time}"))


class Followed(World):
    """A world whose `sessions` are kept in step."""

    def apply(self, day: date, events: Iterable[Event]) -> None:
        self.land(day, list(events))
        self.materialize(day)
        self.follow()

    def check(self) -> None:
        found = self.sessions()
        assert set(found) == sessions_of(sessionize(self.all_events()))
        assert len(found) == len(set(found)), "a session is there twice"

    def compared(self, first: date, last: date) -> list[SessionsFinding]:
        """What the check of `sessions` finds."""
        return compare_sessions(
            self.read(self.warehouse.sessions),
            self.read(self.warehouse.sessionized_events),
            first,
            last,
            SessionRules(),
        )

    def read(self, uri: str) -> DataFrame:
        return self.spark.read.format("delta").load(uri)


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> Followed:
    world = Followed(spark, tmp_path)
    world.apply(D20, [u("09:00"), u("09:04"), u("09:09", "x"), u("23:58"), u("12:00", "x"), u("10:00", user="bob")])
    return world


def test_sessions_are_there_with_their_numbers(world: Followed) -> None:
    world.check()
    (session,) = (each for each in world.sessions() if each.start == datetime(2025, 9, 20, 9))
    assert (session.events, session.user_actions) == (3, 2)


def test_what_follows_from_the_bounds(world: Followed) -> None:
    (session,) = world.read(world.warehouse.sessions).where("hour(session_start_ts) = 23").collect()
    assert session["session_id"] == "ada#idea#2025-09-20T23:58:00.000Z"
    assert (session["minutes"], session["dates"]) == (5.0, 2)
    assert (session["session_date"], session["last_date"]) == (D20, D21)


def test_following_what_has_not_changed_commits_nothing(world: Followed) -> None:
    assert not world.follow().committed


def test_a_session_grows_over_midnight(world: Followed) -> None:
    world.apply(D21, [u("00:01", day=21)])
    world.check()


def test_a_session_that_only_its_timeout_brings_to_a_changed_day_stays(world: Followed) -> None:
    world.apply(D21, [u("12:00", day=21)])
    world.check()


def test_two_sessions_join(world: Followed) -> None:
    world.apply(D21, [u("09:12"), u("09:08")])
    world.check()


def test_an_ide_event_that_is_gone_is_not_counted_any_more(world: Followed) -> None:
    world.apply(D20, [event for event in world.landed[D20] if event != u("09:09", "x")])
    world.check()


def test_a_session_that_is_gone_is_not_there_any_more(world: Followed) -> None:
    world.apply(D20, [event for event in world.landed[D20] if event.user != "bob"])
    world.check()


def test_an_event_at_the_end_of_a_session_goes_to_a_late_one_that_starts_there(world: Followed) -> None:
    world.apply(D21, [u("09:09")])
    world.check()


def test_a_long_session_is_followed_from_days_that_did_not_change(world: Followed) -> None:
    marathon = [
        u("23:58", day=18),
        *(u("23:58", day=18)._replace(at=u("23:58", day=18).at + n * timedelta(minutes=4)) for n in range(400)),
    ]
    world.apply(D21, marathon)
    world.check()


def test_nothing_is_lost_when_runs_are_followed_late_and_out_of_order(world: Followed) -> None:
    for day in (D21, D18, D19):
        world.land(day, [u("12:00", day=day.day), u("12:03", day=max(day.day - 2, 15))])
        world.materialize(day)
    world.follow()
    world.check()


def test_compaction_asks_for_nothing(world: Followed) -> None:
    compact(world.spark, world.warehouse, world.warehouse.sessionized_events)
    assert not world.follow().committed


def test_an_earlier_version_that_is_restored_is_followed(world: Followed) -> None:
    version = DeltaTable(world.warehouse.sessionized_events).version()
    before = set(world.sessions())
    world.apply(D21, [u("09:08"), u("12:00", day=21)])
    assert set(world.sessions()) != before
    world.spark.sql(f"RESTORE delta.`{world.warehouse.sessionized_events}` TO VERSION AS OF {version}")
    world.follow()
    assert set(world.sessions()) == before


def test_sessions_that_are_restored_catch_up(world: Followed) -> None:
    version = DeltaTable(world.warehouse.sessions).version()
    world.apply(D21, [u("09:08"), u("12:00", day=21)])
    world.spark.sql(f"RESTORE delta.`{world.warehouse.sessions}` TO VERSION AS OF {version}")
    world.follow()
    world.check()


def test_where_the_log_does_not_reach_back_all_is_made_anew(world: Followed) -> None:
    world.land(D21, [u("09:08"), u("12:00", day=21)])
    world.materialize(D21)
    world.materialize(D20)
    table = DeltaTable(world.warehouse.sessionized_events)
    table.create_checkpoint()
    for commit in Path(world.warehouse.sessionized_events, "_delta_log").glob("*.json"):
        commit.unlink()
    assert world.follow().committed
    world.check()


# --- the check -------------------------------------------------------------------------------------------------------


def test_sessions_in_step_pass(world: Followed) -> None:
    world.apply(D21, [u("09:08"), u("00:01", day=21), u("12:00", day=21)])
    found = {finding.day: (finding.checked, finding.offenders) for finding in world.compared(D19, D21)}
    assert found == {D19: (0, 0), D20: (3, 0), D21: (1, 0)}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM SESSIONS WHERE user_id = 'bob'", "missing"),
        ("INSERT INTO SESSIONS SELECT * FROM SESSIONS WHERE user_id = 'bob'", "there more than once"),
        ("UPDATE SESSIONS SET events = 7 WHERE user_id = 'bob'", "events is 7, but should be 1"),
        ("UPDATE SESSIONS SET user_actions = 0 WHERE user_id = 'bob'", "user_actions is 0, but should be 1"),
        ("UPDATE SESSIONS SET minutes = 1 WHERE user_id = 'bob'", "minutes is 1.0, but should be 5.0"),
        (
            "UPDATE SESSIONS SET session_end_ts = session_end_ts + INTERVAL 1 SECOND WHERE user_id = 'bob'",
            "session_end_ts is 2025-09-20 10:05:01, but should be 2025-09-20 10:05:00",
        ),
        ("UPDATE SESSIONS SET user_id = 'eve' WHERE user_id = 'bob'", "no event is in such a session"),
    ],
)
def test_a_damaged_table_does_not(world: Followed, damage: str, problem: str) -> None:
    world.spark.sql(damage.replace("SESSIONS", f"delta.`{world.warehouse.sessions}`"))
    (finding,) = world.compared(D20, D20)
    assert finding.offenders > 0
    assert problem in [example.problem for example in finding.examples]


def test_a_wrong_session_is_shown(world: Followed) -> None:
    world.spark.sql(f"DELETE FROM delta.`{world.warehouse.sessions}` WHERE user_id = 'bob'")
    (finding,) = world.compared(D20, D20)
    (example,) = finding.examples
    assert (example.user_id, example.product_code, example.session_start_ts) == ("bob", "idea", "2025-09-20 10:00:00")
