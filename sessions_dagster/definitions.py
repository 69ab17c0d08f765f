"""The code location: `dagster dev` and every `dagster` command start here."""

from typing import Any

import dagster as dg

from sessions_dagster.orchestration.assets import raw_events, sessionized_events
from sessions_dagster.orchestration.checks import session_checks
from sessions_dagster.orchestration.resources import (
    DEFAULT_INPUT_ROOT,
    DEFAULT_SPARK_MASTER,
    DEFAULT_WAREHOUSE_ROOT,
    INPUT_ROOT_VARIABLE,
    SPARK_MASTER_VARIABLE,
    WAREHOUSE_ROOT_VARIABLE,
    LakeResource,
    SessionRulesResource,
    SparkResource,
    setting,
)


def build_defs(**resource_overrides: Any) -> dg.Definitions:
    """All assets, checks and resources.

    Args:
        resource_overrides: Resources by name (`spark`, `lake`, `session_rules`) to use instead of the default ones.
    """
    resources = {
        "spark": SparkResource(master=setting(SPARK_MASTER_VARIABLE, DEFAULT_SPARK_MASTER)),
        "lake": LakeResource(
            input_root=setting(INPUT_ROOT_VARIABLE, DEFAULT_INPUT_ROOT),
            warehouse_root=setting(WAREHOUSE_ROOT_VARIABLE, DEFAULT_WAREHOUSE_ROOT),
        ),
        "session_rules": SessionRulesResource(),
    }
    return dg.Definitions(
        assets=[raw_events, sessionized_events],
        asset_checks=[session_checks],
        resources=resources | resource_overrides,
        # One process a run: the steps share one Spark, where the default executor would start a JVM for each.
        executor=dg.in_process_executor,
    )


defs = build_defs()
