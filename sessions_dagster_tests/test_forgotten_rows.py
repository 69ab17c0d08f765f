"""Which rejected rows mention a forgotten user: wherever the id is, whatever characters it has, and nobody else's."""

import csv
import io
import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.model.forgotten import ForgottenUsers
from sessions_dagster.transforms.forgotten import mentions_forgotten

SALT: Final = "0123456789abcdef"
READ: Final = "too_late"
NOT_READ: Final = "unreadable_record"
IDS: Final = (
    "ann",
    "4711",
    "ann#idea",
    "ann's",
    'ann "the first"',
    "a,b",
    "ann\\",
    "änn ünn",
    "auth0|123",
    "ann@example.com",
    "日本",
    "${x}",
    "%41nn",
    "a.n.n",
    "'; DROP TABLE x --",
)


class Row(NamedTuple):
    """A row of the quarantine."""

    case: str
    user_id: str | None
    event_id: str | None
    product_code: str | None
    timestamp: str | None
    record: str
    reason: str
    source_file: str


def row(case: str, record: str, reason: str, user: str | None = None, file: str = "/in/date=2025-09-20/x.json") -> Row:
    return Row(case, user, "a", "idea", "yesterday", record, reason, file)


def mentioning(user: str) -> Iterator[Row]:
    """Rows that have the id of a user."""
    for name, ascii_ in (("with escapes", True), ("as text", False)):
        of_user = json.dumps({"user_id": user, "event_id": "a"}, ensure_ascii=ascii_)
        yield row(f"the user, {name}", of_user, READ, user)
        yield row(f"a field, {name}", json.dumps({"user_id": "bob", "friend": user}, ensure_ascii=ascii_), READ, "bob")
        yield row(f"nested, {name}", json.dumps({"user_id": {"ids": ["x", user]}}, ensure_ascii=ascii_), READ)
        yield row(f"no end, {name}", of_user[:-1], NOT_READ)
        yield row(f"trailing, {name}", f"{of_user}, oops", NOT_READ)
    written = io.StringIO()
    csv.writer(written).writerow([user, "a", "idea", "2025-09-20 10:00:00"])
    if '"' not in user:
        yield row("a line of CSV", written.getvalue().rstrip("\r\n"), NOT_READ)
    yield row("the line", user, NOT_READ)


def not_mentioning(user: str) -> Iterator[Row]:
    """Rows of others, whose ids have the one of the user in them."""
    for other in (f"{user}a", f"x{user}", f"{user}-2", f"{user} 2", f"{user}#2", f"team/{user}", f"<{user}>", user * 2):
        of_other = json.dumps({"user_id": other, "note": f"{user} was here, and {user}"})
        yield row(f"the user {other}", of_other, READ, other)
    yield row("a longer word", f'{{"user_id": "x{user}x", ', NOT_READ)


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> set[tuple[str, str]]:
    """The id and the case of each row that is found, each among the rows of one user only."""
    cases = set[tuple[str, str]]()
    for user in IDS:
        forgotten = ForgottenUsers(SALT, frozenset({sha256(f"{SALT}{user}".encode()).hexdigest()}), "", 0)
        rows = spark.createDataFrame([*mentioning(user), *not_mentioning(user), *PATHS], SCHEMA)
        cases |= {(user, each["case"]) for each in rows.where(mentions_forgotten(forgotten)).select("case").collect()}
    return cases


SCHEMA: Final = ", ".join(f"{name} string" for name in Row._fields)
PATHS: Final = [
    row("a folder", "{}", READ, "bob", "/in/date=2025-09-20/user=ann/x.json"),
    row("a file", "{}", READ, "bob", "/in/date=2025-09-20/ann.json.gz"),
    row("another file", "{}", READ, "bob", "/in/date=2025-09-20/anna.json.gz"),
]


@pytest.mark.parametrize("user", IDS)
def test_a_rejected_row_that_has_the_id_is_found(found: set[tuple[str, str]], user: str) -> None:
    assert {case.case for case in mentioning(user)} <= {case for of, case in found if of == user}


@pytest.mark.parametrize("user", IDS)
def test_a_rejected_row_of_somebody_else_is_not_found(found: set[tuple[str, str]], user: str) -> None:
    assert not {case.case for case in not_mentioning(user)} & {case for of, case in found if of == user}


def test_an_id_in_the_path_of_a_file_is_found(found: set[tuple[str, str]]) -> None:
    assert {case for of, case in found if "file" in case or "folder" in case} == {"a folder", "a file"}


def test_a_long_record_is_searched_without_a_stack_overflow(spark: SparkSession) -> None:
    forgotten = ForgottenUsers(SALT, frozenset({sha256(f"{SALT}ann".encode()).hexdigest()}), "", 0)
    record = json.dumps({"note": '\\"x' * 300_000, "who": "ann"})
    rows = spark.createDataFrame([row("long", record, READ), row("cut off", record[:-1], NOT_READ)], SCHEMA)
    assert rows.where(mentions_forgotten(forgotten)).count() == len([READ, NOT_READ])


def test_a_value_with_an_escape_that_json_does_not_have_hides_no_other_one(spark: SparkSession) -> None:
    forgotten = ForgottenUsers(SALT, frozenset({sha256(f"{SALT}ann".encode()).hexdigest()}), "", 0)
    broken = [r'{"note": "\x", "who": "ann"', r'{"note": "\u12", "who": "ann"', r'{"note": "\x"']
    rows = spark.createDataFrame([row(record, record, NOT_READ) for record in broken], SCHEMA)
    assert rows.where(mentions_forgotten(forgotten)).count() == len(broken) - 1
