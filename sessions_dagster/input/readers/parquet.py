"""Parquet files of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, BooleanType, NumericType, StringType, StructField, StructType, TimestampType

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers.numbers import whole_number
from sessions_dagster.input.readers.parquet_footer import ROW_INDEX_OF_SPARK, Footer, ParquetColumn, read_footer
from sessions_dagster.input.readers.parquet_sample import are_raw_uuids
from sessions_dagster.input.readers.parquet_schema import Leaf, Meaning, ParquetType, Physical
from sessions_dagster.input.readers.parquet_types import is_number, is_timestamp, read_as, values
from sessions_dagster.input.readers.rows import (
    AS_JSON,
    TIMESTAMP_TEXT,
    any_of,
    check_required_columns,
    delivered,
    for_each,
    is_invalid_utf8,
    unusable,
    whole_files,
)
from sessions_dagster.input.readers.timestamps import from_epoch, parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT_IDENTITY, KEY_COLUMNS, RECORD, SOURCE_FILE, TIMESTAMP
from sessions_dagster.spark.compat import make_valid_utf8, metadata_column

_STORED_TIMESTAMP: Final = "__stored_timestamp"

_MOST_SCANS: Final = 16
"""In no more groups than this are files read that differ only in the types of the sender's own columns.

Each group is a scan of its own, and 120 of them took 28 s where one took 2 s.
"""

_AS_STORED: Final = {"datetimeRebaseMode": "CORRECTED", "int96RebaseMode": "CORRECTED"}
"""By default Spark fails for dates in files of old writers that may follow another calendar, before 1582 or 1900."""


@dataclass
class _Group:
    """Files that are read in one scan.

    Attributes:
        files: The files, each with what its footer says.
        columns: Their columns by name; a file may lack some.
    """

    files: list[tuple[BatchFile, Footer]]
    columns: dict[str, ParquetColumn]

    def fits(self, columns: Mapping[str, ParquetColumn]) -> bool:
        """Whether each column has the same type as the one of that name in the group, if there is one."""
        return all(self.columns.get(name, column) == column for name, column in columns.items())

    def add(self, file: BatchFile, footer: Footer) -> None:
        """Add a file. A column whose type is another one in the group can then not be read in any of the files."""
        self.files.append((file, footer))
        for name, column in footer.columns.items():
            known = self.columns.setdefault(name, column)
            if known != column:
                self.columns[name] = ParquetColumn(None, "differs")

    @property
    def readable(self) -> dict[str, ParquetType]:
        """The types of the columns that can be read, by name."""
        return {
            name: column.type for name, column in self.columns.items() if column.type is not None and not column.fault
        }


def read_parquet(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> list[DataFrame]:
    """The rows of Parquet files.

    Args:
        spark: As `read_batch` takes it.
        files: The files of a batch, all Parquet.
        carried_columns: As `read_batch` takes them.
        epoch_unit: As `read_batch` takes it.

    Returns:
        What `read_batch` gives, in one DataFrame per kind of file.
    """
    needed = (*EVENT_IDENTITY, *carried_columns)
    footers = list(zip(files, for_each(lambda file: _checked_footer(file, needed, epoch_unit), files), strict=True))
    # Frames without rows have columns of any type: nobody has set the types that no value has.
    groups = _grouped([(file, footer) for file, footer in footers if footer.rows], needed)
    return [_rows(spark, group, carried_columns, epoch_unit) for group in groups] or [_no_rows(spark, carried_columns)]


def _checked_footer(file: BatchFile, needed: Sequence[str], epoch_unit: EpochUnit | None) -> Footer:
    """The footer of a file, unless the file cannot be read, or one of the needed columns."""
    footer = read_footer(file)
    if footer.rows:
        check_required_columns(file, footer.names)
        for name, column in footer.columns.items():
            if name in needed and column.fault:
                raise BatchError(f"{file.uri}: the column {name} {column.fault}.")
        for name in KEY_COLUMNS:
            _check_key(file, footer, name)
        _check_timestamp(file, footer.columns[TIMESTAMP], epoch_unit)
    return footer


def _check_key(file: BatchFile, footer: Footer, name: str) -> None:
    """Refuse a file with a key whose type is not one of a key."""
    wanted, type_ = "a UUID, text, or a number that is an id", footer.columns[name].type
    if not _can_be_key(type_):
        raise unusable(file, name, _described(type_), wanted)
    if _may_be_text(type_) and are_raw_uuids(file, footer, name):
        raise unusable(file, name, "bytes of UUIDs without that type", wanted)


def _check_timestamp(file: BatchFile, column: ParquetColumn, epoch_unit: EpochUnit | None) -> None:
    """Refuse a file with a timestamp whose type is not one of a timestamp."""
    is_text = _may_be_text(column.type) or _meaning(column.type) is Meaning.STRING
    if is_timestamp(column.type) or is_text or _meaning(column.type) is Meaning.NOTHING:
        return
    if not is_number(column.type):
        raise unusable(file, TIMESTAMP, _described(column.type), "a timestamp, or text that holds one")
    if epoch_unit is None:
        wanted = "a timestamp or text that holds one, unless the setting epoch_unit says what it counts"
        raise unusable(file, TIMESTAMP, _described(column.type), wanted)


def _can_be_key(type_: ParquetType | None) -> bool:
    if not isinstance(type_, Leaf):
        return False
    is_known = type_.meaning in (Meaning.UUID, Meaning.NOTHING)
    return is_known or _may_be_text(type_) or not isinstance(read_as(type_), BinaryType | BooleanType)


def _may_be_text(type_: ParquetType | None) -> bool:
    # Some writers do not say of text that it is text. Bytes of a fixed length are something else.
    return isinstance(type_, Leaf) and type_ in (Leaf(Physical.BYTE_ARRAY), Leaf(Physical.BYTE_ARRAY, Meaning.STRING))


def _meaning(type_: ParquetType | None) -> Meaning:
    return type_.meaning if isinstance(type_, Leaf) else Meaning.OTHER


def _described(type_: ParquetType | None) -> str:
    if type_ is None:
        return "a nested type that does not follow the format, or has too many levels"
    found = read_as(type_)
    return str(type_) if isinstance(type_, Leaf) and isinstance(found, BinaryType) else found.simpleString()


def _grouped(footers: Sequence[tuple[BatchFile, Footer]], needed: Sequence[str]) -> list[_Group]:
    """The files in as few groups as possible whose columns have the same types, and that `whole_files` can read.

    Args:
        footers: The files with what their footers say.
        needed: The columns that must be read from each file that has them. If there would be too many groups, files are
            read together that differ in the types of others.
    """
    groups: list[_Group] = []
    for file, footer in footers:
        fitting = None if file.pattern is None else _fitting(groups, footer, needed)
        if fitting is None:
            fitting = _Group([], {})
            groups.append(fitting)
        fitting.add(file, footer)
    return groups


def _fitting(groups: Sequence[_Group], footer: Footer, needed: Sequence[str]) -> _Group | None:
    """The group that a file can be read with, None if there is none."""
    shared = [group for group in groups if group.files[0][0].pattern is not None]
    must_fit = footer.columns
    if len(shared) >= _MOST_SCANS and not any(group.fits(must_fit) for group in shared):
        must_fit = {name: column for name, column in must_fit.items() if name in needed}
    return next((group for group in shared if group.fits(must_fit)), None)


def _rows(
    spark: SparkSession, group: _Group, carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> DataFrame:
    types = group.readable
    scan = _scan(spark, [file for file, _ in group.files], types)
    _check_that_all_are_read(scan, group)
    needed = [name for name in (*EVENT_IDENTITY, *carried_columns) if name in types]
    rows = scan.select(
        *[values(_column(name), types[name]).alias(name) for name in needed],
        _column(TIMESTAMP).alias(_STORED_TIMESTAMP),
        _record(group).alias(RECORD),
        _source_file(scan, group).alias(SOURCE_FILE),
    )
    numbers = {
        name: whole_number(F.col(name), rows.schema[name].dataType)
        for name in needed
        if name != TIMESTAMP and isinstance(rows.schema[name].dataType, NumericType)
    }
    timestamp, text = _timestamp_and_text(types[TIMESTAMP], epoch_unit)
    # The text of Parquet is bytes, and nobody checks them on the way. Other readers could not read a table with bytes
    # that are not UTF-8.
    texts = [name for name in EVENT_IDENTITY if isinstance(rows.schema[name].dataType, StringType | BinaryType)]
    return delivered(
        rows,
        carried_columns,
        timestamp=timestamp,
        timestamp_text=text,
        record=F.col(RECORD),
        unreadable=any_of([F.lit(False), *map(is_invalid_utf8, texts)]),
        whole_numbers=numbers,
        source_file=F.col(SOURCE_FILE),
    )


def _no_rows(spark: SparkSession, carried_columns: Mapping[str, str]) -> DataFrame:
    # Spark knows neither that there is nothing in it nor what the values would be: it would leave out the plan of what
    # it knows to be empty, and with it the numbers that are observed.
    nothing = spark.range(1).where(F.spark_partition_id() < 0)
    value = F.nullif(F.col("id"), F.lit(0)).cast(StringType())
    rows = nothing.select(*[value.alias(name) for name in (*EVENT_IDENTITY, TIMESTAMP_TEXT, RECORD, SOURCE_FILE)])
    return delivered(
        rows,
        carried_columns,
        timestamp=F.col(TIMESTAMP).cast(TimestampType()),
        timestamp_text=F.col(TIMESTAMP_TEXT),
        record=F.col(RECORD),
        unreadable=F.lit(False),
        source_file=F.col(SOURCE_FILE),
    )


def _scan(spark: SparkSession, files: Sequence[BatchFile], types: Mapping[str, ParquetType]) -> DataFrame:
    """What is stored in some columns of files."""
    schema = StructType([StructField(name, read_as(type_)) for name, type_ in types.items()])
    reader, paths = whole_files(spark, files)
    return reader.options(**_AS_STORED).schema(schema).parquet(*paths)


def _source_file(scan: DataFrame, group: _Group) -> Column:
    """The URI of the file that a row is from (string)."""
    if ROW_INDEX_OF_SPARK in group.columns:
        # Where nobody needs the path, Spark reads all of its own metadata, the row index among them. The other way is
        # slower: Spark does not filter rows before it.
        return F.input_file_name()
    return metadata_column(scan, "_metadata").getField("file_path")


def _check_that_all_are_read(scan: DataFrame, group: _Group) -> None:
    """Refuse files of which Spark finds another number of rows than their footers say: rows would be lost in silence.

    No column is read for that.
    """
    if scan.count() == sum(footer.rows for _, footer in group.files):
        return
    for file, footer in group.files:
        found = _scan(scan.sparkSession, [file], {}).count()
        if found != footer.rows:
            raise BatchError(
                f"{file.uri} is damaged: it says that it has {footer.rows} rows, but {found} can be read. "
                "Deliver it again."
            )


def _timestamp_and_text(type_: ParquetType, epoch_unit: EpochUnit | None) -> tuple[Column, Column]:
    column, stored = F.col(TIMESTAMP), F.col(_STORED_TIMESTAMP).cast(StringType())
    if is_timestamp(type_):
        # A time that is out of range is shown as the number that it is.
        return column, F.coalesce(column.cast(StringType()), stored)
    if epoch_unit is not None and is_number(type_):
        return from_epoch(whole_number(column, read_as(type_)), epoch_unit), stored
    # A column of NULL is read like any other. If Spark knew in advance that no row has a timestamp, and so that none is
    # accepted, it would leave out the plan, and with it the numbers that are observed.
    return parse_timestamp_or_number(stored, epoch_unit), stored


def _record(group: _Group) -> Column:
    """The whole row as JSON, as far as it can be read.

    Columns that only some of the files have are left out where they are NULL: they may not be there at all.
    """
    shown = {name: _shown(name, type_) for name, type_ in group.readable.items()}
    everywhere = {name for name in shown if all(name in footer.columns for _, footer in group.files)}
    record = F.to_json(F.struct(*[value for name, value in shown.items() if name in everywhere]), AS_JSON)
    others = [value for name, value in shown.items() if name not in everywhere]
    if others:
        record = _joined(record, F.to_json(F.struct(*others), {**AS_JSON, "ignoreNullFields": "true"}))
    return make_valid_utf8(record)


def _shown(name: str, type_: ParquetType) -> Column:
    """The values of a column in a record; a time that is out of range is shown as the number that it is."""
    stored = _column(name)
    value = values(stored, type_)
    if is_timestamp(type_):
        value = F.coalesce(F.date_format(value, AS_JSON["timestampFormat"]), stored.cast(StringType()))
    return value.alias(name)


def _joined(one: Column, other: Column) -> Column:
    """The fields of two JSON objects in one; the first has some."""
    begun = one.substr(F.lit(1), F.length(one) - 1)
    return F.when(other == "{}", one).otherwise(F.concat(begun, F.lit(","), other.substr(F.lit(2), F.length(other))))


def _column(name: str) -> Column:
    """A column by its name, which may contain anything."""
    return F.col("`{}`".format(name.replace("`", "``")))
