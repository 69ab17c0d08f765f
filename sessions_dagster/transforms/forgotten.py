"""Which rows are of forgotten users. Only hashes of their ids are known, so the parts of a text are hashed.

A row of events is of one user. A rejected row may be anything: an id may be in a line that nobody could read.
"""

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

from sessions_dagster.model.columns import EVENT, PRODUCT, REASON, RECORD, SOURCE_FILE, TIMESTAMP, USER
from sessions_dagster.model.forgotten import ForgottenUsers
from sessions_dagster.model.rejects import RejectReason

# With the last `+` Java keeps no way back, of which a long text would need more than its stack holds.
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_BARE: Final = r'[^\s"{}\[\]:,]+'
_BETWEEN_WORDS: Final = r"""[\s"'`,;|:=/\\&?!()\[\]{}<>]+"""
_BETWEEN_FIELDS: Final = (" *, *", " *; *", " *[|] *", " *\t *")
_LAST_DOTS: Final = r"\.+$"
_OUTER_QUOTES: Final = r"""^["']|["']$"""
_SUFFIXES: Final = r"\..*$"


def is_of_forgotten(forgotten: ForgottenUsers) -> Column:
    """Whether the `user_id` (string) of a row is one of some forgotten users (boolean, never NULL)."""
    return _is_one(USER, forgotten)


def mentions_forgotten(forgotten: ForgottenUsers) -> Column:
    """Whether a row of `rejected_events` has the id of one of some forgotten users anywhere (boolean, never NULL).

    In a row that could be read, the id is a whole value, so that the rows of others stay whose ids have it in them. In
    a line that could not be read it may be any word or field, and in the path of a file any part.
    """
    is_text = F.col(REASON) == RejectReason.UNREADABLE_RECORD.value
    found = F.concat(
        F.array(USER, EVENT, PRODUCT, TIMESTAMP),
        _values_in(F.col(RECORD)),
        F.when(is_text, _words_in(F.col(RECORD))).otherwise(_none()),
        _words_in(F.col(SOURCE_FILE)),
        F.transform(_words_in(F.col(SOURCE_FILE)), lambda word: F.regexp_replace(word, _SUFFIXES, "")),
    )
    return F.coalesce(F.exists(found, lambda word: _is_one(word, forgotten)), F.lit(False))


def _values_in(json: Column) -> Column:
    """The values in a text of JSON, or in what was meant to be one: quoted ones, without their escapes, and others."""
    quoted = F.regexp_extract_all(json, F.lit(_QUOTED), F.lit(0))
    bare = F.regexp_extract_all(F.regexp_replace(json, _QUOTED, " "), F.lit(_BARE), F.lit(0))
    inside = F.transform(quoted, lambda value: value.substr(F.lit(2), F.length(value) - 2))
    unescaped = F.transform(quoted, _unescaped)
    return F.concat(_or_none(bare), _or_none(inside), _or_none(unescaped))


def _unescaped(quoted: Column) -> Column:
    # NULL if an escape in it is none of JSON.
    return F.get(F.from_json(F.concat(F.lit("["), quoted, F.lit("]")), "array<string>"), F.lit(0))


def _words_in(text: Column) -> Column:
    """What may be a value in a text of any kind: its words, and its fields if it is a line of CSV."""
    words = F.transform(F.split(text, _BETWEEN_WORDS), lambda word: F.regexp_replace(word, _LAST_DOTS, ""))
    fields = F.concat(*[F.split(F.trim(text), mark) for mark in _BETWEEN_FIELDS])
    return F.concat(*map(_or_none, (F.array(text), words, fields, F.transform(fields, _without_quotes))))


def _without_quotes(field: Column) -> Column:
    return F.replace(F.regexp_replace(field, _OUTER_QUOTES, ""), F.lit('""'), F.lit('"'))


def _none() -> Column:
    return F.array().cast("array<string>")


def _or_none(texts: Column) -> Column:
    return F.coalesce(texts, _none())


def _is_one(value: Column | str, forgotten: ForgottenUsers) -> Column:
    """Whether a text is the id of a forgotten user."""
    hashed = F.sha2(F.concat(F.lit(forgotten.salt), value), 256)
    return F.coalesce(hashed.isin(*sorted(forgotten.hashes)), F.lit(False))
