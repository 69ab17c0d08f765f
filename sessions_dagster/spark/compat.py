"""What the supported versions of Spark do differently: one function for each, so that nobody else asks for a version.

Which versions these are, and whether Delta's fits, is in `versions`. A function goes when the oldest version that needs
it does.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import pyarrow as pa
import pyspark
from pyspark.sql import Column, DataFrame, types
from pyspark.sql import functions as F
from pyspark.sql.pandas import functions as arrow_functions

SPARK_LINE: Final = tuple(int(part) for part in pyspark.__version__.split(".")[:2])
"""The line of the installed Spark: (4, 2) for 4.2.0."""

VariantType: Final[type[types.DataType]] = getattr(types, "VariantType", types.NullType)
"""The type of a variant. Spark 3.5 has none: it is refused in a sentence, which it can only be if all is imported."""

_SQL_NAMES: Final = {pa.string(): "string", pa.bool_(): "boolean"}


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
