"""What the supported versions of Spark do differently: one function for each, so that nobody else asks for a version.

Which versions these are, and whether Delta's fits, is in `versions`. A function goes when the oldest version that needs
it does. What takes Spark 3.5 more than a line is in `spark3`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import pyarrow as pa
import pyspark
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, types
from pyspark.sql import functions as F
from pyspark.sql.pandas import functions as arrow_functions

from sessions_dagster.spark import spark3

SPARK_LINE: Final = tuple(int(part) for part in pyspark.__version__.split(".")[:2])
"""The line of the installed Spark: (4, 2) for 4.2.0."""

_IS_SPARK_3: Final = SPARK_LINE < (4, 0)

HAS_REPLACE_ON: Final = not _IS_SPARK_3
"""Whether Delta has the option `replaceOn` of an overwrite. Delta 4 has it, and goes with Spark 4."""

_FLOAT_16, _VARIANT_AND_GEODATA = {15}, {16, 17, 18}
PARQUET_LOGICAL_TYPES: Final = (
    frozenset({*range(1, 9), *range(10, 15)})
    | (set() if _IS_SPARK_3 else _FLOAT_16)
    | (_VARIANT_AND_GEODATA if SPARK_LINE >= (4, 1) else set())
)
"""The logical types that Spark's Parquet library knows, by their numbers. It reads no file with any other one."""

HAS_TEXT_IN_ZSTANDARD: Final = SPARK_LINE >= (4, 1)
"""Whether files of text may be compressed with Zstandard, without Hadoop's own libraries."""

VariantType: Final[type[types.DataType]] = getattr(types, "VariantType", spark3.NoVariantType)
"""The type of a variant."""

_SQL_NAMES: Final = {pa.string(): "string", pa.bool_(): "boolean"}


class JsonValue(NamedTuple):
    """A value in JSON.

    Attributes:
        kind: `STRING`, `DOUBLE`, `DECIMAL(…)`, or the name of another type (string). To Spark 3.5 all numbers are
            `DOUBLE`.
        double: The number (double), if it is `DOUBLE`. Spark 3.5 gives only whole ones.
        digits: The number (string), if it is a decimal one.
    """

    kind: Column
    double: Column
    digits: Column


def json_field(line: Column, name: str, options: Mapping[str, str]) -> Column:
    """A field of a JSON object, of which `json_value` says what it is.

    Args:
        line: The object (string).
        name: The name of the field.
        options: With which `from_json` reads the line.
    """
    if _IS_SPARK_3:
        return spark3.json_field(line, name, options)
    return F.from_json(line, types.StructType([types.StructField(name, VariantType())]), options).getField(name)


def json_value(field: Column) -> JsonValue:
    """What a field is that `json_field` gave."""
    if _IS_SPARK_3:
        return JsonValue(spark3.json_kind(field), spark3.json_double(field), F.lit(None).cast("string"))
    return JsonValue(
        F.schema_of_variant(field), F.try_variant_get(field, "$", "double"), F.try_variant_get(field, "$", "string")
    )


def try_cast(value: Column, wanted: types.DataType) -> Column:
    """A value as another type; NULL if it cannot be cast."""
    return spark3.try_cast(value, wanted) if _IS_SPARK_3 else value.try_cast(wanted)


def make_valid_utf8(text: Column) -> Column:
    """A text (string) with U+FFFD in the place of bytes that are not UTF-8."""
    return spark3.make_valid_utf8(text) if _IS_SPARK_3 else F.make_valid_utf8(text)


def is_valid_utf8(text: Column) -> Column:
    """Whether all bytes of a text (string) are UTF-8 (boolean)."""
    return spark3.is_valid_utf8(text) if _IS_SPARK_3 else F.is_valid_utf8(text)


def metadata_column(rows: DataFrame, name: str) -> Column:
    """A column that Spark adds to what it reads, even if the rows have one of that name."""
    return spark3.metadata_column(rows, name) if _IS_SPARK_3 else rows.metadataColumn(name)


def local_checkpoint(rows: DataFrame, *, eager: bool) -> DataFrame:
    """Rows that are computed once and kept as objects, in memory or on disk: at once, or when they are first used."""
    if _IS_SPARK_3:
        return rows.localCheckpoint(eager)  # always keeps them so
    return rows.localCheckpoint(eager=eager, storageLevel=StorageLevel.MEMORY_AND_DISK_DESER)


def merge(source: DataFrame, table: str, condition: Column, is_removed: Column, values: Mapping[str, Column]) -> None:
    """A MERGE in one commit.

    Args:
        source: The rows, whose columns have other names than those of the table.
        table: The name of the table, for SQL.
        condition: Whether a row of the source is about a row of the table.
        is_removed: Whether a row of the source removes that row. Any other one replaces it, or is inserted.
        values: What is written, by the column of the table.
    """
    if _IS_SPARK_3:
        spark3.merge(source, table, condition, is_removed, values)
        return
    (
        source.mergeInto(table, condition)
        .whenMatched(is_removed)
        .delete()
        .whenMatched()
        .update({**values})
        .whenNotMatched(~is_removed)
        .insert({**values})
        .merge()
    )


def least_by(value: Column, order: Column, count: int) -> Column:
    """An aggregate: the values of the rows that are the first ones in an order.

    Args:
        value: Any value.
        order: The order, of any type that can be ordered. Rows for which it is NULL do not count.
        count: At most how many there are.

    Returns:
        An array of the values, in their order. Before Spark 4.2 all of them are gathered first.
    """
    if SPARK_LINE >= (4, 2):
        return F.min_by(value, order, count)
    pairs = F.collect_list(F.when(order.isNotNull(), F.struct(order.alias("order"), value.alias("value"))))
    return F.slice(F.sort_array(pairs), 1, count)["value"]


def map_in_arrow(
    rows: DataFrame, function: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]], schema: pa.Schema
) -> DataFrame:
    """What a function makes of the rows of each partition, like `mapInArrow`, but from Spark 4.1 without pandas.

    Args:
        rows: Any rows, of at least two columns of text.
        function: Takes the rows of a partition, in their order, and gives no more rows than it took. Python workers run
            it.
        schema: The columns that it gives, of text and of booleans.

    Returns:
        The columns of the schema.

    Raises:
        PySparkImportError: If Spark is older than 4.1, and there is no pandas.
    """
    names = rows.columns
    type_ = ", ".join(f"{field.name} {_SQL_NAMES[field.type]}" for field in schema)
    if SPARK_LINE < (4, 1):
        return rows.mapInArrow(function, type_)
    row_type = pa.struct(list(schema))

    def in_struct(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        taken = given = 0

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal taken
            for columns in batches:
                taken += len(columns[0])
                yield pa.record_batch(list(columns), names=names)

        for batch in function(counted()):
            given += batch.num_rows
            yield batch.to_struct_array()
        # Spark wants a value for each row.
        yield pa.nulls(taken - given, row_type)

    # It depends on the order, so nothing may move it.
    mapped = arrow_functions.arrow_udf(in_struct, type_).asNondeterministic()  # type: ignore[call-overload]
    return rows.select(mapped(*names).alias("row")).where(F.col("row").isNotNull()).select("row.*")
