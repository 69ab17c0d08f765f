"""Which days the sensor looks at and which runs it requests: plain rules over days, fingerprints and its cursor.

What is in the folders comes from `input.folders`, what has run from `run_history`. The work of a tick is bounded by the
constants below, however many folders there are:

- A folder that the cursor does not know is looked into at once. If there are very many of them, the oldest and the
  newest ones come first.
- Of the folders it knows, the newest ones and those whose run failed are looked into at every tick, and the others in
  turn. So the correction of an old batch is found too, at most `known folders / OLDER_DAYS_PER_TICK` ticks later.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from sessions_dagster.model.dates import days_between, spans

NEW_DAYS_PER_TICK: Final = 400
RECENT_DAYS: Final = 14
OLDER_DAYS_PER_TICK: Final = 16

MAX_OPEN_RUNS: Final = 5
"""While this many runs of the sensor are queued or running it requests no more. What arrives meanwhile is joined."""

MAX_DAYS_PER_RUN: Final = 31
"""A longer range would save little more than the start of a Spark, and would lose more if it fails."""

_NAMES_SHOWN: Final = 3


@dataclass(frozen=True)
class GivenUp:
    """A content that is not requested again.

    Attributes:
        fingerprint: The content.
        run_id: The run that failed on it, or was cancelled.
    """

    fingerprint: str
    run_id: str


@dataclass
class Memory:
    """What the sensor knows from earlier ticks. All of it can be lost: `run_history` knows what has been done.

    Attributes:
        known: The days whose content needed no run when they were last looked at.
        done: The fingerprints of the newest of them.
        asked: The requested runs that are not known to be finished: by run key, the days with their fingerprints.
        given_up: By day, the content that a run failed on.
        alone: By day, the content that gets a run of its own, because a run of many days failed and named no batch.
        looked_until: The last one of the older days that has had its turn.
    """

    known: set[date] = field(default_factory=set)
    done: dict[date, str] = field(default_factory=dict)
    asked: dict[str, dict[date, str]] = field(default_factory=dict)
    given_up: dict[date, GivenUp] = field(default_factory=dict)
    alone: dict[date, str] = field(default_factory=dict)
    looked_until: date = date.min

    @staticmethod
    def from_cursor(cursor: str | None) -> "Memory":
        """Read the sensor's cursor; without one the memory is empty.

        Raises:
            ValueError: If it is no cursor of this sensor.
        """
        if cursor is None:
            return Memory()
        try:
            stored = json.loads(cursor)
            return Memory(
                known={day for first, last in stored["known"] for day in days_between(_day(first), _day(last))},
                done=_by_day(stored["done"]),
                asked={run_key: _by_day(days) for run_key, days in stored["asked"].items()},
                given_up={_day(day): GivenUp(*given_up) for day, given_up in stored["given_up"].items()},
                alone=_by_day(stored["alone"]),
                looked_until=_day(stored["looked_until"]),
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a cursor of this sensor: {cursor[:100]}") from error

    def to_cursor(self) -> str:
        """The memory as JSON, with the known days as ranges."""
        stored = {
            "known": [[str(first), str(last)] for first, last in spans(self.known)],
            "done": _by_key(self.done),
            "asked": {run_key: _by_key(days) for run_key, days in self.asked.items()},
            "given_up": _by_key({day: [each.fingerprint, each.run_id] for day, each in self.given_up.items()}),
            "alone": _by_key(self.alone),
            "looked_until": str(self.looked_until),
        }
        return json.dumps(stored, separators=(",", ":"))

    def forget_all_but(self, days: Collection[date]) -> None:
        """Forget the days whose folders are gone."""
        self.known.intersection_update(days)
        self.done = {day: content for day, content in self.done.items() if day in days}
        self.given_up = {day: content for day, content in self.given_up.items() if day in days}
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

    def is_done(self, day: date, fingerprint: str) -> bool:
        """Whether the memory says that this very content needs nothing more."""
        return self.done.get(day) == fingerprint

    def finish(self, day: date, fingerprint: str) -> None:
        """Remember that this content needs nothing more."""
        self.known.add(day)
        self.done[day] = fingerprint
        self.given_up.pop(day, None)
        self.alone.pop(day, None)

    def give_up(self, day: date, content: GivenUp) -> None:
        """Remember that this content is not requested again."""
        self.known.add(day)
        self.done.pop(day, None)
        self.alone.pop(day, None)
        self.given_up[day] = content

    def reopen(self, day: date) -> None:
        """Have the next tick look at the day as at a new one."""
        self.known.discard(day)
        self.done.pop(day, None)

    def ask(self, plan: "RunPlan") -> None:
        """Remember that the run is requested."""
        self.asked[plan.run_key] = dict(plan.days)

    def trim(self) -> None:
        """Keep the fingerprints of the newest days only."""
        recent = sorted(self.known)[-RECENT_DAYS:]
        self.done = {day: self.done[day] for day in recent if day in self.done}


@dataclass(frozen=True)
class Wanted:
    """A content to be landed.

    Attributes:
        fingerprint: The content.
        after: The landing that it follows, 0 for none. Dagster remembers a run key for ever, so with the content alone
            a batch that is corrected, and then put back as it was, would never land again.
        is_alone: Whether it gets a run of its own.
    """

    fingerprint: str
    after: int
    is_alone: bool = False


@dataclass(frozen=True)
class RunPlan:
    """A run to request.

    Attributes:
        days: Its consecutive days, with the fingerprints of their contents.
        run_key: What Dagster knows it by: the same contents after the same landings are never run twice.
    """

    days: Mapping[date, str]
    run_key: str

    @property
    def first(self) -> date:
        """Its first day."""
        return min(self.days)

    @property
    def last(self) -> date:
        """Its last day."""
        return max(self.days)


def plan_runs(wanted: Mapping[date, Wanted]) -> list[RunPlan]:
    """Join consecutive days into as few runs as possible, and give those that must be alone a run each.

    Args:
        wanted: The contents to be landed, by day.

    Returns:
        The runs, in the order of their days.
    """
    joined = [day for day in wanted if not wanted[day].is_alone]
    pieces = [piece for first, last in spans(joined) for piece in _pieces(first, last)]
    pieces += [(day, day) for day in wanted if wanted[day].is_alone]
    return [_run_plan({day: wanted[day] for day in days_between(first, last)}) for first, last in sorted(pieces)]


def day_ranges(days: Iterable[date]) -> list[str]:
    """Each run of consecutive days, written as Dagster writes a range."""
    return [str(first) if first == last else f"{first}...{last}" for first, last in spans(days)]


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
    contents = [f"{content.fingerprint}@{content.after}" for content in wanted.values()]
    if len(contents) > 1:
        contents = [hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]]
    return RunPlan({day: content.fingerprint for day, content in wanted.items()}, f"{name}:{contents[0]}")


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


def _by_key(by_day: Mapping[date, object]) -> dict[str, object]:
    return {day.isoformat(): by_day[day] for day in sorted(by_day)}
