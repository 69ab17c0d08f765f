"""Timestamps that are delivered as text or as a number.

docs/contract.md has a table of what is read and what is not (*Timestamps in text*), which the tests read.
"""

from collections.abc import Mapping
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, LongType, TimestampType

from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers.numbers import whole_number
from sessions_dagster.spark.compat import try_cast

_MICROSECONDS: Final[Mapping[EpochUnit, int]] = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}

_NUMBER: Final = r"^\s*+[+-]?+\d++(?:\.\d*+)?+(?:[eE][+-]?+\d++)?+\s*+\z"

# All quantifiers that take any number of characters are possessive (`++`): a pattern that gives characters back takes a
# time that grows with the square of a text's length.

# Nearly all timestamps look like this, and Spark's own cast says whether they are. It lets no other name of a zone in.
_COMMON: Final = r"^\s*+\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d[\d:. +-]*+(?:Z|UTC|GMT)?+\s*+\z"

# A text without seconds takes them from this, which is put behind every text: a replacement has no default.
_END: Final = "|00"
_NO_SECONDS: Final = r"(?=[^|]*+\|(?<{}>00)\z)"

_OFFSET: Final = r"[+-](?:\d{4}(?:\d\d)?|\d{1,2}(?::\d\d(?::\d\d)?)?)"
_REGION: Final = r"(?!SystemV/)[A-Z][A-Za-z]*+/[A-Za-z0-9_+/-]++"
_REGION_OR_UTC: Final = rf"{_REGION}|UTC|GMT"

_EXTENDED: Final = (
    r"(?<separator>[-/])(?<month>\d{1,2})\k<separator>(?<day>\d{1,2})[ Tt](?<hour>\d{1,2}):(?<minute>\d{1,2})"
    rf"(?::(?<second>\d{{1,2}})(?:[.,](?<fraction>\d++)|\.)?+|{_NO_SECONDS.format('noSecond')})"
)
_BASIC: Final = (
    r"(?<month2>\d\d)(?<day2>\d\d)[Tt](?<hour2>\d\d)(?<minute2>\d\d)"
    rf"(?:(?<second2>\d\d)(?:[.,](?<fraction2>\d++))?+|(?!\d){_NO_SECONDS.format('noSecond2')})"
)

# What Go prints: the offset, and then the name of the zone, which may be any abbreviation, or a number. Only the offset
# counts. A time since the program began can follow.
_GO: Final = (
    r"(?<goHours>[+-]\d\d)(?<goMinutes>\d\d) "
    r"(?:(?<=[+-]0000 )(?:UTC|GMT)|(?!UTC|GMT)[A-Z]{3,5}|\k<goHours>(?:\k<goMinutes>)?+)(?: m=[+-]\d++\.\d++)?+"
)

_ANY: Final = (
    rf"^\s*+(?<year>\d{{4}})(?:{_EXTENDED}|{_BASIC})\s*+"
    rf"(?:(?i:Z|UTC|GMT)(?:\[(?<utcIn>{_REGION_OR_UTC})\])?+|{_GO}"
    rf"|(?<offset>{_OFFSET})(?:\[(?<offsetIn>{_REGION_OR_UTC})\])?+"
    rf"|(?<region>{_REGION})|\[(?<regionIn>{_REGION})\])?+\s*+\|00\z"
)
_LOCAL: Final = (
    "${year}-${month}${month2}-${day}${day2}T${hour}${hour2}:${minute}${minute2}:"
    "${second}${second2}${noSecond}${noSecond2}.${fraction}${fraction2}"
)
_ZONE: Final = "${goHours}${goMinutes}${offset}${region}${regionIn}"


def parse_timestamp(text: Column) -> Column:
    """A timestamp (UTC) from text: a date and a time of day with at least minutes, and perhaps a zone.

    Args:
        text: Text (string).

    Returns:
        The timestamp. Without a zone the text is UTC; digits after the microseconds are cut off. NULL if the text is
        not a timestamp, or one that can be understood in several ways. Spark's own cast would take `12:00:00` for today
        and `2025` for New Year, and an abbreviation such as `IST` for one of the zones of that name.
    """
    common = F.when(text.rlike(_COMMON), try_cast(text, TimestampType()))
    return F.coalesce(common, _parse_uncommon(F.concat(text, F.lit(_END))))


def _parse_uncommon(text: Column) -> Column:
    """A timestamp in any spelling that the contract lists, from a text with its end."""
    # This is part of the code that runs for all rows, and Java does not compile methods that are too long. With a few
    # replacements more, a million rows of text took twice as long.
    instant = try_cast(_respelled(text, _LOCAL + _ZONE), TimestampType())
    return F.when(~text.contains("["), instant).when(_agrees(text, instant), instant)


def _agrees(text: Column, instant: Column) -> Column:
    """Whether the region in brackets exists, and does not contradict an offset before it."""
    region = _respelled(text, "${offsetIn}")
    is_known = try_cast(_respelled(text, _LOCAL + "${utcIn}${offsetIn}"), TimestampType()).isNotNull()
    local = try_cast(_respelled(text, _LOCAL), TimestampType())
    # Spark fails for a region that it does not know, so that comes first.
    return F.when(is_known, F.when(region == "", F.lit(True)).otherwise(F.from_utc_timestamp(instant, region) == local))


def _respelled(text: Column, parts: str) -> Column:
    """Some parts of a text. A text that is no timestamp stays as it is, and its end makes Spark refuse it."""
    return F.regexp_replace(text, _ANY, parts)


def parse_timestamp_or_number(text: Column, epoch_unit: EpochUnit | None) -> Column:
    """A timestamp (UTC) from text, which may also be a number of some unit since 1970 if the unit is known.

    Args:
        text: Text (string).
        epoch_unit: The unit of numbers; None: a number is no timestamp.

    Returns:
        The timestamp. NULL if the text is neither a timestamp nor such a number, as in `from_epoch`.
    """
    if epoch_unit is None:
        return parse_timestamp(text)
    whole = F.coalesce(
        try_cast(text, LongType()).cast("string"), whole_number(try_cast(text, DoubleType()), DoubleType())
    )
    return F.when(text.rlike(_NUMBER), from_epoch(whole, epoch_unit)).otherwise(parse_timestamp(text))


def from_epoch(number: Column, epoch_unit: EpochUnit) -> Column:
    """A timestamp (UTC) from a number since 1970-01-01 00:00:00 UTC.

    Args:
        number: The digits of a whole number (string).
        epoch_unit: What it counts.

    Returns:
        The timestamp. NULL if there is no number, or one outside of the years that Spark knows.
    """
    return F.timestamp_micros(F.try_multiply(try_cast(number, LongType()), F.lit(_MICROSECONDS[epoch_unit])))
