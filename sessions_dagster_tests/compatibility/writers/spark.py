"""Spark, with the version that the project itself runs on."""

import shutil
from pathlib import Path

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from sessions_dagster_tests.compatibility.writers.rows import Write, records

OWN_TEXT = """CASE event_id WHEN 'x' THEN 'two\\nlines' ELSE 'a comma, a "quote", ü' END"""


def cases(spark: SparkSession) -> dict[str, Write]:
    """How Spark writes the file of each case. Each is one file of the folder that Spark writes."""
    rows = spark.createDataFrame(records()).withColumn("timestamp", F.col("timestamp").cast("timestamp"))

    def write(format_: str, options: dict[str, str] | None = None, /, **others: Column) -> Write:
        def to(path: Path) -> None:
            folder = path.with_name(f"{path.name}.folder")
            rows.withColumns(others).coalesce(1).write.format(format_).options(**(options or {})).save(str(folder))
            (part,) = folder.glob("part-*")
            shutil.move(part, path)
            shutil.rmtree(folder)

        return to

    def parquet(**others: str) -> Write:
        return write("parquet", **{name: F.expr(value) for name, value in others.items()})

    def csv(options: dict[str, str] | None = None, /, **others: str) -> Write:
        expressions = {name: F.expr(value) for name, value in others.items()}
        return write("csv", {"header": "true", "escape": '"', **(options or {})}, **expressions)

    def json(options: dict[str, str] | None = None, /, **others: str) -> Write:
        return write("json", options, **{name: F.expr(value) for name, value in others.items()})

    return {
        "user_id: text.parquet": parquet(),
        "user_id: int32.parquet": parquet(user_id="int(user_id)"),
        "user_id: int64.parquet": parquet(user_id="bigint(user_id)"),
        "user_id: float64.parquet": parquet(user_id="double(user_id)"),
        "user_id: decimal.parquet": parquet(user_id="CAST(user_id AS decimal(38, 9))"),
        "user_id: bytes of text.parquet": parquet(user_id="binary(user_id)"),
        "timestamp: microseconds.parquet": parquet(),
        "timestamp: without a zone.parquet": parquet(timestamp="CAST(timestamp AS timestamp_ntz)"),
        "timestamp: date.parquet": parquet(timestamp="date(timestamp)"),
        "timestamp: text.parquet": parquet(timestamp="string(timestamp)"),
        "timestamp: epoch milliseconds.parquet": parquet(timestamp="unix_millis(timestamp)"),
        "own: interval.parquet": parquet(own="INTERVAL '1 10:00:00' DAY TO SECOND"),
        "own: decimal.parquet": parquet(own="CAST(user_id AS decimal(38, 9))"),
        "own: bytes.parquet": parquet(own="X'FF00'"),
        "own: list.parquet": parquet(own="array('x', 'y')"),
        "own: struct.parquet": parquet(own="named_struct('x', 1)"),
        "own: map.parquet": parquet(own="map('x', 1)"),
        "own: variant.parquet": parquet(own="""parse_json('{"x": 1}')"""),
        "own: named _c4.parquet": parquet(_c4="user_id"),
        **{
            f"codec: {codec}.parquet": write("parquet", {"compression": as_spark_has_it})
            for codec, as_spark_has_it in {"none": "none", "lz4": "lz4_raw"}.items()
        },
        **{f"codec: {codec}.parquet": write("parquet", {"compression": codec}) for codec in ("snappy", "gzip", "zstd")},
        "timestamp: with a zone.csv": csv(),
        "user_id: number.csv": csv(user_id="bigint(user_id)"),
        "user_id: float64.csv": csv(user_id="double(user_id)"),
        "own: quotes and line breaks.csv": csv(own=OWN_TEXT),
        "timestamp: with a zone.json": json(),
        "user_id: number.json": json(user_id="bigint(user_id)"),
        "user_id: float64.json": json(user_id="double(user_id)"),
        "own: quotes and line breaks.json": json(own=OWN_TEXT),
        "own: nested.json": json(own="named_struct('x', array(1, NULL))"),
        **{
            f"codec: {suffix}.csv.{suffix}": csv({"compression": codec})
            for suffix, codec in {"gz": "gzip", "bz2": "bzip2", "lz4": "lz4", "zst": "zstd"}.items()
        },
        **{
            f"codec: {suffix}.json.{suffix}": json({"compression": codec})
            for suffix, codec in {"gz": "gzip", "bz2": "bzip2", "lz4": "lz4", "zst": "zstd"}.items()
        },
    }
