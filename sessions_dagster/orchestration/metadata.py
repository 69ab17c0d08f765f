"""How reports of `core` look in the Dagster UI: metadata of materializations and column schemas."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_deltalake import DeltaTableResource
from pyspark.sql.types import StructType

from sessions_dagster.core.apply import ApplyReport
from sessions_dagster.core.correction import SessionChange
from sessions_dagster.core.landing import LandingReport
from sessions_dagster.core.summary import DaySummary
from sessions_dagster.lake.log import event_dates  # noqa: F401

Metadata = Mapping[str, Any]


def column_schema(schema: StructType) -> dg.TableSchema:
    """A table's columns with their descriptions, as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                type=field.dataType.simpleString(),
                description=field.metadata["comment"],
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )
