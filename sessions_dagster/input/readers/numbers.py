"""Numbers where text is expected, above all ids: whole numbers are written alike, whatever their type or spelling."""

from collections.abc import Mapping
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    LongType,
    StringType,
)

from sessions_dagster.spark.compat import JsonValue, json_field, json_value, try_cast

_EXACT_IN_DOUBLE: Final = 2**53
"""Up to this, neighbouring whole numbers are different floats of 64 bits."""

_EXACT_IN_FLOAT: Final = 2**24
"""The same for floats of 32 bits."""

_MAY_BE_NO_TEXT: Final = r'^(?:-?\d+(?:\.\d|[eE])|["{\[]|(?:true|false)\z)'


def whole_number(value: Column, type_: DataType) -> Column:
    """The digits of a whole number.

    Args:
        value: A number.
        type_: Its type, which is numeric.

    Returns:
        For example `-12345678` (string), for zero always `0`. NULL if the number is not whole, or is a float so large
        that several whole numbers are the same float.
    """
    match type_:
        case DoubleType():
            return _whole_float(value, _EXACT_IN_DOUBLE)
        case FloatType():
            return _whole_float(value, _EXACT_IN_FLOAT)
        case DecimalType() if type_.scale > 0:
            return F.when(value % F.lit(1) == 0, F.floor(value).cast(StringType()))
        case _:
            return value.cast(StringType())


def _whole_float(value: Column, limit: int) -> Column:
    # NaN is greater than any limit.
    return F.when((F.abs(value) <= limit) & (F.floor(value) == value), value.cast(LongType()).cast(StringType()))


def text_or_whole_number(text: Column, line: Column, name: str, options: Mapping[str, str]) -> Column:
    """The value of a JSON field: its text if it is a text, and its digits if it is a whole number.

    Args:
        text: The value of the field as `from_json` gives it for a string (string), which writes `1e3` as `1000.0` and
            does not tell the number from the same text in quotes.
        line: The JSON object (string).
        name: The name of the field.
        options: With which `from_json` reads the line.

    Returns:
        The text or the digits (string). NULL if the value is anything else, as in `whole_number`. A number that has a
        fraction or an exponent is a float, as it is for other readers.
    """
    value = json_field(line, name, options)
    # As a function of an array, what few rows need stays out of the code that Spark generates for all rows.
    looked_up = F.transform(F.array(value), lambda found: _text_or_digits(text, json_value(found)))
    return F.when(text.rlike(_MAY_BE_NO_TEXT), F.get(looked_up, F.lit(0))).otherwise(text)


def _text_or_digits(text: Column, value: JsonValue) -> Column:
    """The text if a value is one, and its digits if it is a whole number."""
    return (
        F.when(value.kind == "STRING", text)
        .when(value.kind == "DOUBLE", whole_number(value.double, DoubleType()))
        .when(
            value.kind.startswith("DECIMAL") & value.digits.rlike(r"^-?\d{1,16}\z"),
            F.when(F.abs(try_cast(value.digits, LongType())) <= _EXACT_IN_DOUBLE, value.digits),
        )
    )
