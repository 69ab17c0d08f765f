"""What an alert says, as a text for people and as JSON for programs."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from sessions_dagster.errors import one_line

Kind = Literal["failed_run", "failed_check", "missing_batches"]

_TITLES: Final[Mapping[Kind, str]] = {
    "failed_run": "Failed run",
    "failed_check": "Failed check",
    "missing_batches": "Missing batches",
}

_MAX_SENTENCE: Final = 500

# The class of an exception in front of its message, as Dagster and Python write it.
_CLASS: Final = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?:[A-Z]\w*)?(?:Error|Exception|Failure|Interrupt|Warning): ")
# What py4j puts in front of the error of Java that it is about.
_CALL_OF_JAVA: Final = re.compile(r"^An error occurred while calling \S+?(?:\. Trace)?\s*:\s+")
# A point inside a path, a number or a version has no blank after it.
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s|\n")


@dataclass(frozen=True)
class Alert:
    """One thing that somebody should know.

    Attributes:
        kind: What it is about.
        error: The first sentence of the error, or what the check found.
        partitions: The days, as Dagster writes them: `2025-09-20` or `2025-09-01...2025-09-05`.
        assets: The assets, as Dagster writes their keys.
        url: Where to look: the page of the run or of the check.
        job: The job of the run, if there is a run.
        run_id: The run, if there is one.
        check: The check, if it is about one.
    """

    kind: Kind
    error: str
    partitions: tuple[str, ...]
    assets: tuple[str, ...]
    url: str
    job: str | None = None
    run_id: str | None = None
    check: str | None = None

    @property
    def title(self) -> str:
        """One line that says what it is about."""
        about = [*([self.check] if self.check else []), ", ".join(self.assets) or (self.job or "")]
        days = ", ".join(self.partitions)
        return f"{_TITLES[self.kind]}: {' of '.join(each for each in about if each)}{f', {days}' if days else ''}"

    @property
    def text(self) -> str:
        """All of it, for people."""
        job = f" (job {self.job}, run {self.run_id})" if self.job else ""
        return f"{self.title}{job}\n{self.error}\n{self.url}"

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs: the attributes, and the title and the text as people get them."""
        return {"title": self.title, "text": self.text, **dataclasses.asdict(self)}

    def to_line(self) -> str:
        """The alert as text that `from_line` reads."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read what `to_line` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            stored = json.loads(line)
            lists = {name: tuple(stored[name]) for name in ("partitions", "assets")}
            alert = cls(**{**stored, **lists})
            # One that no channel could tell would hold up all that come after it.
            alert.as_json()
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not an alert: {line[:100]}") from error
        return alert


def first_sentence(message: str) -> str:
    """The first sentence of an error, without the name of an exception's class in front of it, and not too long."""
    # What came from the name of a file may have no encoding, and would make no mail.
    told = _CLASS.sub("", message.encode("utf-8", "replace").decode().strip())
    stripped = _CLASS.sub("", _CALL_OF_JAVA.sub("", told)).strip()
    sentence = one_line(_SENTENCE_END.split(stripped, maxsplit=1)[0].strip())
    return sentence if len(sentence) <= _MAX_SENTENCE else f"{sentence[: _MAX_SENTENCE - 1]}…"
