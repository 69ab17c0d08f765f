"""The types of Parquet in Spark: as which type a column is read, and what its values are then.

Spark is asked for what is stored, and not for what it stands for: it refuses some types, and a whole file because of
one time that is out of range. What is stored is turned into values here, and no value fails.
"""

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    NumericType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from sessions_dagster.input.readers.parquet_schema import (
    Leaf,
    ListOf,
    MapOf,
    Meaning,
    ParquetType,
    Physical,
    StructOf,
    Variant,
)
from sessions_dagster.spark.compat import VariantType

_GREATEST_PRECISION: Final = 38

_STORED: Final = {
    Physical.BOOLEAN: BooleanType(),
    Physical.INT32: IntegerType(),
    Physical.INT64: LongType(),
    Physical.INT96: TimestampType(),
    Physical.FLOAT: FloatType(),
    Physical.DOUBLE: DoubleType(),
    Physical.BYTE_ARRAY: BinaryType(),
    Physical.FIXED_LEN_BYTE_ARRAY: BinaryType(),
}
_MEANT: Final = {
    (Meaning.STRING, Physical.BYTE_ARRAY): StringType(),
    (Meaning.DATE, Physical.INT32): DateType(),
    (Meaning.INT_8, Physical.INT32): ByteType(),
    (Meaning.INT_16, Physical.INT32): ShortType(),
    (Meaning.UINT_8, Physical.INT32): ShortType(),
    (Meaning.UINT_16, Physical.INT32): IntegerType(),
    (Meaning.UINT_32, Physical.INT32): LongType(),
    (Meaning.UINT_64, Physical.INT64): DecimalType(20, 0),
}

_UNITS_PER_SECOND: Final = {
    Meaning.TIME_MILLIS: 1_000,
    Meaning.TIME_MICROS: 1_000_000,
    Meaning.TIME_NANOS: 1_000_000_000,
    Meaning.TIMESTAMP_MILLIS: 1_000,
    Meaning.TIMESTAMP_MICROS: 1_000_000,
    Meaning.TIMESTAMP_NANOS: 1_000_000_000,
}
_TIMES: Final = (Meaning.TIME_MILLIS, Meaning.TIME_MICROS, Meaning.TIME_NANOS)
_TIMESTAMPS: Final = (Meaning.TIMESTAMP_MILLIS, Meaning.TIMESTAMP_MICROS, Meaning.TIMESTAMP_NANOS)
_SECONDS_OF_A_DAY: Final = 86_400


def read_as(type_: ParquetType) -> DataType:
    """The type as which Spark reads a column of some type: what is stored."""
    match type_:
        case Leaf(_, Meaning.DECIMAL, _, precision, scale) if _is_decimal_of_spark(precision, scale):
            return DecimalType(precision, scale)
        case Leaf(physical, meaning):
            return _MEANT.get((meaning, physical), _STORED[physical])
        case ListOf(element):
            return ArrayType(read_as(element))
        case MapOf(key, value):
            return MapType(read_as(key), read_as(value))
        case StructOf(fields):
            return StructType([StructField(name, read_as(field)) for name, field in fields])
        case Variant():
            return VariantType()


def values(stored: Column, type_: ParquetType) -> Column:
    """What the values of a column stand for.

    Args:
        stored: The column as it is read.
        type_: Its type in Parquet.

    Returns:
        A timestamp (UTC) for each type of timestamp, NULL if Spark knows no such year; digits after the microseconds
        are cut off. The text of a UUID or of a time of day. The same for what is nested. A map whose keys are no text
        becomes an array of its entries. Everything else as it is read.
    """
    return _converted(stored, type_) if _is_converted(type_) else stored


def is_timestamp(type_: ParquetType | None) -> bool:
    """Whether `values` gives a timestamp for a type."""
    return isinstance(type_, Leaf) and (type_.physical is Physical.INT96 or type_.meaning in _TIMESTAMPS)


def is_number(type_: ParquetType | None) -> bool:
    """Whether `values` gives a number for a type."""
    if not isinstance(type_, Leaf) or type_.meaning is Meaning.NOTHING:
        return False
    return not _is_converted(type_) and isinstance(read_as(type_), NumericType)


def _is_decimal_of_spark(precision: int, scale: int) -> bool:
    return 0 < precision <= _GREATEST_PRECISION and 0 <= scale <= precision


def _is_converted(type_: ParquetType) -> bool:
    match type_:
        case Leaf(physical, meaning):
            return physical is not Physical.INT96 and meaning in {*_TIMES, *_TIMESTAMPS, Meaning.UUID}
        case ListOf(element):
            return _is_converted(element)
        case MapOf(key, value):
            return not _is_text(key) or _is_converted(value)
        case StructOf(fields):
            return any(_is_converted(field) for _, field in fields)
        case Variant():
            return False


def _converted(stored: Column, type_: ParquetType) -> Column:
    match type_:
        case Leaf(_, meaning):
            return _converted_leaf(stored, meaning)
        case ListOf(element):
            return F.transform(stored, lambda each: values(each, element))
        case MapOf(key, value):
            return _converted_map(stored, key, value)
        case StructOf(fields):
            converted = [values(stored.getField(name), field).alias(name) for name, field in fields]
            return F.when(stored.isNotNull(), F.struct(*converted))
        case Variant():
            return stored


def _converted_leaf(stored: Column, meaning: Meaning) -> Column:
    if meaning is Meaning.UUID:
        return F.regexp_replace(F.lower(F.hex(stored)), "^(.{8})(.{4})(.{4})(.{4})(.{12})$", "$1-$2-$3-$4-$5")
    return _timestamp(stored, meaning) if meaning in _TIMESTAMPS else _time_of_day(stored, meaning)


def _converted_map(stored: Column, key: ParquetType, value: ParquetType) -> Column:
    if _is_text(key):
        return F.transform_values(stored, lambda _, each: values(each, value))
    # As the name of a field Spark would write the address of bytes, and two new keys could be alike.
    return F.transform(
        F.map_entries(stored),
        lambda entry: F.struct(values(entry["key"], key).alias("key"), values(entry["value"], value).alias("value")),
    )


def _is_text(type_: ParquetType) -> bool:
    return isinstance(type_, Leaf) and isinstance(read_as(type_), StringType)


def _timestamp(stored: Column, unit: Meaning) -> Column:
    match unit:
        case Meaning.TIMESTAMP_MILLIS:
            return F.timestamp_micros(F.try_multiply(stored, F.lit(1_000)))
        case Meaning.TIMESTAMP_NANOS:
            # Division rounds towards zero, which before 1970 would be upwards.
            below = F.when(stored % F.lit(1_000) < 0, F.lit(1)).otherwise(F.lit(0))
            return F.timestamp_micros(F.call_function("div", stored, F.lit(1_000)) - below)
        case _:
            return F.timestamp_micros(stored)


def _time_of_day(stored: Column, unit: Meaning) -> Column:
    """The text of a time of day, or the number if it is none."""
    units = _UNITS_PER_SECOND[unit]
    number = stored.cast(LongType())
    clock = F.date_format(F.timestamp_seconds(F.call_function("div", number, F.lit(units))), "HH:mm:ss")
    fraction = F.lpad((number % F.lit(units)).cast(StringType()), len(str(units)) - 1, "0")
    is_time = (number >= 0) & (number < _SECONDS_OF_A_DAY * units)
    return F.when(is_time, F.concat(clock, F.lit("."), fraction)).otherwise(number.cast(StringType()))
