"""Which days the sensor looks at and which runs it requests: plain rules over days, fingerprints and its cursor.

What is in the folders comes from `input.folders`, what has landed from the tables, what is running from `run_history`.
The work of a tick is bounded by the constants below, however many folders there are:

- A folder that the cursor does not know is looked into at once. If there are very many of them, the oldest and the
  newest ones come first.
- Of the folders it knows, the newest ones and those whose run failed are looked into at every tick, and the others in
  turn. So the correction of an old batch is found too, at most `known folders / OLDER_DAYS_PER_TICK` ticks later.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

from sessions_dagster.model.dates import day_ranges, days_between, spans

NEW_DAYS_PER_TICK: Final = 400
RECENT_DAYS: Final = 14
OLDER_DAYS_PER_TICK: Final = 16

MAX_OPEN_RUNS: Final = 5
"""While this many runs of the sensor are queued or running it requests no more. What arrives meanwhile is joined."""

MAX_DAYS_PER_RUN: Final = 31
"""A longer range would save little more than the start of a Spark, and would lose more if it fails."""

FIRST_PAUSE: Final = timedelta(minutes=1)
"""The pause after a failure that may pass. After each further one of the same content it is twice as long."""

MOST_DOUBLINGS: Final = 6
"""So often: the longest pause is a little more than an hour. Nobody knows how long a storage is away."""

_NAMES_SHOWN: Final = 3


@dataclass(frozen=True)
class FailedContent:
    """A content that a run has failed on.

    Attributes:
        fingerprint: The content.
        run_id: The run that failed, or was cancelled.
    """

    fingerprint: str
    run_id: str


@dataclass(frozen=True)
class PostponedContent(FailedContent):
    """A content that is requested again after a pause, because what its run failed on may pass.

    Attributes:
        failures: How many runs of it have failed so, one after the other.
        not_before: When the pause is over (UTC).
    """

    failures: int
    not_before: datetime


class Why(StrEnum):
    """Why a day is requested."""

    NEW = "new"
    CHANGED = "changed"
    NOT_APPLIED = "landed, not applied yet"


@dataclass
class Memory:
    """What the sensor knows from earlier ticks. All of it can be lost: the tables know what has landed.

    Attributes:
        known: The days whose content needed no run when they were last looked at.
        applied: By day, the landing (see `Wanted.landing`) that a run applied without anything to change. The tables
            only say so of landings that changed something.
        asked: The requested runs that are not known to be finished: by run key, the days with their fingerprints.
        given_up: By day, the content that is not requested again.
        again: By day, the content that is requested again, because what its run failed on may pass.
        alone: By day, the content that gets a run of its own, because a run of many days failed and named no batch, or
            failed once more on what may pass.
        looked_until: The last one of the older days that has had its turn.
    """

    known: set[date] = field(default_factory=set)
    applied: dict[date, int] = field(default_factory=dict)
    asked: dict[str, dict[date, str]] = field(default_factory=dict)
    given_up: dict[date, FailedContent] = field(default_factory=dict)
    again: dict[date, PostponedContent] = field(default_factory=dict)
    alone: dict[date, str] = field(default_factory=dict)
    looked_until: date = date.min

    @staticmethod
    def from_cursor(cursor: str | None) -> "Memory":
        """Read the sensor's cursor; without one the memory is empty. The UI hands over an empty text for none.

        Raises:
            ValueError: If it is no cursor of this sensor.
        """
        if not cursor:
            return Memory()
        try:
            stored = json.loads(cursor)
            return Memory(
                known={day for first, last in stored["known"] for day in days_between(_day(first), _day(last))},
                applied={_day(day): int(landing) for day, landing in stored["applied"].items()},
                asked={run_key: _by_day(days) for run_key, days in stored["asked"].items()},
                given_up=_failed_by_day(stored["given_up"]),
                # Cursors of older versions have none.
                again=_postponed_by_day(stored.get("again", {})),
                alone=_by_day(stored["alone"]),
                looked_until=_day(stored["looked_until"]),
            )
        except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a cursor of this sensor: {cursor[:100]}") from error

    def to_cursor(self) -> str:
        """The memory as JSON, with the known days as ranges."""
        stored = {
            "known": [[str(first), str(last)] for first, last in spans(self.known)],
            "applied": _by_key(self.applied),
            "asked": {run_key: _by_key(days) for run_key, days in self.asked.items()},
            "given_up": _failed_by_key(self.given_up),
            "again": _postponed_by_key(self.again),
            "alone": _by_key(self.alone),
            "looked_until": str(self.looked_until),
        }
        return json.dumps(stored, separators=(",", ":"))

    def forget_all_but(self, days: Collection[date]) -> None:
        """Forget the days whose folders are gone."""
        self.known.intersection_update(days)
        self.applied = {day: landing for day, landing in self.applied.items() if day in days}
        self.given_up = {day: content for day, content in self.given_up.items() if day in days}
        self.again = {day: content for day, content in self.again.items() if day in days}
        self.alone = {day: content for day, content in self.alone.items() if day in days}

    def take_turns(self, days: Collection[date]) -> list[date]:
        """The days that a tick looks at, in order. The older ones take turns, and this moves on to the next turn.

        Args:
            days: The days that have a folder and may land.
        """
        new = _both_ends(sorted(set(days) - self.known))
        known = sorted(self.known.intersection(days))
        failed = sorted(self.given_up.keys() & known)[-RECENT_DAYS:]
        recent, older = known[-RECENT_DAYS:], known[:-RECENT_DAYS]
        waiting = [day for day in older if day > self.looked_until] or older
        turn = waiting[:OLDER_DAYS_PER_TICK]
        self.looked_until = turn[-1] if turn else date.min
        return sorted({*new, *failed, *recent, *turn})

    def finish(self, day: date) -> None:
        """Remember that the content of the day needs nothing more."""
        self.known.add(day)
        self.given_up.pop(day, None)
        self.again.pop(day, None)
        self.alone.pop(day, None)

    def give_up(self, day: date, content: FailedContent) -> None:
        """Remember that this content is not requested again."""
        self.known.add(day)
        self.again.pop(day, None)
        self.alone.pop(day, None)
        self.given_up[day] = content

    def try_again(self, day: date, content: FailedContent, failed_at: datetime) -> None:
        """Remember that this content is requested once more, after a pause.

        From its second failure on it gets a run of its own: one day that always fails would keep the others of its run
        from being done.

        Args:
            day: The day.
            content: The content, and the run that failed.
            failed_at: When it failed (UTC).
        """
        earlier = self.postponed(day, content.fingerprint)
        failures = 1 if earlier is None else earlier.failures + 1
        pause = FIRST_PAUSE * 2 ** min(failures - 1, MOST_DOUBLINGS)
        self.known.discard(day)
        self.again[day] = PostponedContent(content.fingerprint, content.run_id, failures, failed_at + pause)
        if failures > 1:
            self.alone[day] = content.fingerprint

    def postponed(self, day: date, fingerprint: str) -> PostponedContent | None:
        """What is known of a content of the day that is to be requested again; None if it is not."""
        content = self.again.get(day)
        return content if content is not None and content.fingerprint == fingerprint else None

    def reopen(self, day: date) -> None:
        """Have the next tick look at the day as at a new one."""
        self.known.discard(day)

    def ask(self, plan: "RunPlan") -> None:
        """Remember that the run is requested."""
        self.asked[plan.run_key] = dict(plan.days)


@dataclass(frozen=True)
class Wanted:
    """A content to be landed, or to be applied if it has landed.

    Attributes:
        fingerprint: The content.
        landing: The landing that the tables have of its day, in milliseconds since 1970; 0 for none. Dagster remembers
            a run key for ever, so with the content alone a batch that is corrected, and then put back as it was, would
            never land again.
        why: Why it is requested.
        is_alone: Whether it gets a run of its own.
        after: The run that failed on it and is to be followed by another one, which therefore needs another run key;
            empty if there is none.
    """

    fingerprint: str
    landing: int
    why: Why = Why.NEW
    is_alone: bool = False
    after: str = ""

    @property
    def key(self) -> str:
        """What it contributes to the key of its run."""
        return f"{self.fingerprint}@{self.landing}{'+' if self.after else ''}{self.after[:8]}"


@dataclass(frozen=True)
class RunPlan:
    """A run to request.

    Attributes:
        days: Its consecutive days, with the fingerprints of their contents.
        run_key: What Dagster knows it by: the same contents after the same landings are never run twice.
        why: Why its days are requested.
    """

    days: Mapping[date, str]
    run_key: str
    why: tuple[Why, ...]

    @property
    def first(self) -> date:
        """Its first day."""
        return min(self.days)

    @property
    def last(self) -> date:
        """Its last day."""
        return max(self.days)

    @property
    def is_landed(self) -> bool:
        """Whether all its batches have landed, and are only to be applied."""
        return self.why == (Why.NOT_APPLIED,)


def plan_runs(wanted: Mapping[date, Wanted]) -> list[RunPlan]:
    """Join consecutive days into as few runs as possible, and give those that must be alone a run each.

    What has landed is not landed again, so it shares no run with what is to land.

    Args:
        wanted: The contents to be landed or applied, by day.

    Returns:
        The runs, in the order of their days.
    """
    joined = [day for day in wanted if not wanted[day].is_alone]
    landed = {day for day in joined if wanted[day].why == Why.NOT_APPLIED}
    alike = [*spans(landed), *spans(day for day in joined if day not in landed)]
    pieces = [piece for first, last in alike for piece in _pieces(first, last)]
    pieces += [(day, day) for day in wanted if wanted[day].is_alone]
    return [_run_plan({day: wanted[day] for day in days_between(first, last)}) for first, last in sorted(pieces)]


def reasons_line(reasons: Mapping[str, Sequence[str]]) -> str:
    """Each reason with the names that it applies to. Of many names only some are shown."""
    return "; ".join(f"{reason}: {_some(names)}" for reason, names in reasons.items() if names)


def _both_ends(days: Sequence[date]) -> Sequence[date]:
    """If there are very many days, the oldest and the newest of them."""
    # Folders that never become complete stay new: with many of them the newest would never have their turn.
    if len(days) <= NEW_DAYS_PER_TICK:
        return days
    return [*days[: NEW_DAYS_PER_TICK - RECENT_DAYS], *days[-RECENT_DAYS:]]


def _run_plan(wanted: Mapping[date, Wanted]) -> RunPlan:
    (name,) = day_ranges(wanted)
    contents = [content.key for content in wanted.values()]
    if len(contents) > 1:
        contents = [hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]]
    return RunPlan(
        days={day: content.fingerprint for day, content in wanted.items()},
        run_key=f"{name}:{contents[0]}",
        why=tuple(sorted({content.why for content in wanted.values()}, key=list(Why).index)),
    )


def _pieces(first: date, last: date) -> list[tuple[date, date]]:
    days = days_between(first, last)
    pieces = [days[start : start + MAX_DAYS_PER_RUN] for start in range(0, len(days), MAX_DAYS_PER_RUN)]
    return [(piece[0], piece[-1]) for piece in pieces]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _day(key: str) -> date:
    return date.fromisoformat(key)


def _by_day(by_key: Mapping[str, str]) -> dict[date, str]:
    return {_day(key): value for key, value in by_key.items()}


def _failed_by_day(by_key: Mapping[str, Sequence[str]]) -> dict[date, FailedContent]:
    return {_day(key): FailedContent(*value) for key, value in by_key.items()}


def _failed_by_key(by_day: Mapping[date, FailedContent]) -> dict[str, object]:
    return _by_key({day: [content.fingerprint, content.run_id] for day, content in by_day.items()})


def _postponed_by_day(by_key: Mapping[str, tuple[str, str, int, str]]) -> dict[date, PostponedContent]:
    return {
        _day(key): PostponedContent(fingerprint, run_id, failures, datetime.fromisoformat(not_before).astimezone(UTC))
        for key, (fingerprint, run_id, failures, not_before) in by_key.items()
    }


def _postponed_by_key(by_day: Mapping[date, PostponedContent]) -> dict[str, object]:
    return _by_key(
        {
            day: [content.fingerprint, content.run_id, content.failures, content.not_before.isoformat()]
            for day, content in by_day.items()
        }
    )


def _by_key(by_day: Mapping[date, object]) -> dict[str, object]:
    return {day.isoformat(): by_day[day] for day in sorted(by_day)}
