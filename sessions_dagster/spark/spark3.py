"""What Spark 3.5 lacks of Spark 4, made of what it has. Only `compat` uses it, which says what each of them is for."""

from collections.abc import Mapping
from typing import Any, Final

from delta import DeltaTable
from pyspark import SparkContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DecimalType,
    DoubleType,
    MapType,
    StringType,
    StructField,
    StructType,
)

_UTF8: Final = "UTF-8"

_JSON_TYPES: Final[Mapping[str, DataType]] = {
    "double": DoubleType(),
    # Digits for the greatest whole number that a float of 64 bits tells from its neighbours, and for what makes it not
    # whole.
    "exact": DecimalType(38, 22),
    "boolean": BooleanType(),
    "object": MapType(StringType(), StringType()),
    "array": ArrayType(StringType()),
}
"""The types as which a field of JSON is read: of what is no number, and so on, `from_json` makes NULL."""


class NoVariantType(DataType):
    """Takes the place of the type of a variant. No column is of it."""


def try_cast(value: Column, wanted: DataType) -> Column:
    """`Column.try_cast`. Only SQL has it, so it is a cast whose mode is changed in Java."""
    java: Any = SparkContext._active_spark_context._jvm  # type: ignore[union-attr]
    cast: Any = value.cast(wanted)._jc.expr()  # type: ignore[operator]
    mode = java.org.apache.spark.sql.catalyst.expressions.EvalMode.TRY()
    tried = cast.copy(cast.child(), cast.dataType(), cast.timeZoneId(), mode)
    return Column(java.org.apache.spark.sql.Column(tried))


def make_valid_utf8(text: Column) -> Column:
    """`make_valid_utf8`, except that the three bytes of half of a surrogate pair become one U+FFFD, and not three."""
    return F.decode(text.cast("binary"), _UTF8)


def is_valid_utf8(text: Column) -> Column:
    """`is_valid_utf8`."""
    return F.encode(make_valid_utf8(text), _UTF8) == text.cast("binary")


def json_field(line: Column, name: str, options: Mapping[str, str]) -> Column:
    """A field of JSON, read as each of several types."""
    return F.struct(
        *(
            F.from_json(line, StructType([StructField(name, type_)]), options).getField(name).alias(kind)
            for kind, type_ in _JSON_TYPES.items()
        )
    )


def json_kind(field: Column) -> Column:
    """`STRING`, `DOUBLE` for any number, or something else, as `schema_of_variant` says it."""
    others = ("boolean", "object", "array")
    kind = F.when(field["double"].isNotNull(), F.lit("DOUBLE"))
    for other in others:
        kind = kind.when(field[other].isNotNull(), F.lit(other))
    return kind.otherwise(F.lit("STRING"))


def json_double(field: Column) -> Column:
    """The number, or NULL if it is too large or not whole. As a float alone, `1.00000000000000001` would be whole.

    What is less than half of the 22nd digit of the fraction is not seen: a decimal has 38 digits.
    """
    return F.when(field["exact"] % F.lit(1) == 0, field["double"])


def metadata_column(rows: DataFrame, name: str) -> Column:
    """`DataFrame.metadataColumn`, which only Java has."""
    return Column(rows._jdf.metadataColumn(name))


def merge(source: DataFrame, table: str, condition: Column, is_removed: Column, values: Mapping[str, Column]) -> None:
    """A MERGE, which only SQL and Delta's own class have."""
    (
        DeltaTable.forName(source.sparkSession, table)
        .merge(source, condition)
        .whenMatchedDelete(is_removed)
        .whenMatchedUpdate(set={**values})
        .whenNotMatchedInsert(~is_removed, values={**values})
        .execute()
    )
