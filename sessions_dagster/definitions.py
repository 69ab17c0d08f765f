"""The code location: `dagster dev` and every `dagster` command start here."""

from typing import Any

import dagster as dg

from sessions_dagster.core.contract import BOT_LIMIT
from sessions_dagster.orchestration.assets import (
    raw_events,
    rejected_events,
    session_corrections,
    sessionized_events,
    sessions,
)
from sessions_dagster.orchestration.checks import session_checks, sessions_check
from sessions_dagster.orchestration.maintenance import SCHEDULES, compaction, vacuum_job
from sessions_dagster.orchestration.metadata import with_code_reference
from sessions_dagster.orchestration.resources import (
    BOT_LIMIT_VARIABLE,
    DEFAULT_INPUT_ROOT,
    DEFAULT_SETTLE_SECONDS,
    DEFAULT_SPARK_MASTER,
    DEFAULT_WAREHOUSE_ROOT,
    INPUT_ROOT_VARIABLE,
    SETTLE_SECONDS_VARIABLE,
    SPARK_MASTER_VARIABLE,
    SUCCESS_MARKER_VARIABLE,
    WAREHOUSE_ROOT_VARIABLE,
    ArrivalsResource,
    LakeResource,
    LandingResource,
    SessionRulesResource,
    SparkResource,
    setting,
    switch,
)
from sessions_dagster.orchestration.sensors import new_batches


def build_defs(**resource_overrides: Any) -> dg.Definitions:
    """All assets, checks, jobs, schedules, sensors and resources.

    Args:
        resource_overrides: Resources by name (`spark`, `lake`, `landing`, `session_rules`, `arrivals`) to use
            instead of the default ones.
    """
    resources = {
        "spark": SparkResource(master=setting(SPARK_MASTER_VARIABLE, DEFAULT_SPARK_MASTER)),
        "lake": LakeResource(
            input_root=setting(INPUT_ROOT_VARIABLE, DEFAULT_INPUT_ROOT),
            warehouse_root=setting(WAREHOUSE_ROOT_VARIABLE, DEFAULT_WAREHOUSE_ROOT),
        ),
        "landing": LandingResource(bot_limit=setting(BOT_LIMIT_VARIABLE, BOT_LIMIT)),
        "session_rules": SessionRulesResource(),
        "arrivals": ArrivalsResource(
            settle_seconds=setting(SETTLE_SECONDS_VARIABLE, DEFAULT_SETTLE_SECONDS),
            require_success_marker=switch(SUCCESS_MARKER_VARIABLE),
        ),
    }
    return dg.Definitions(
        assets=[
            *[with_code_reference(asset) for asset in (raw_events, sessionized_events, sessions)],
            rejected_events,
            session_corrections,
        ],
        asset_checks=[session_checks, sessions_check],
        jobs=[compaction, vacuum_job],
        schedules=SCHEDULES,
        sensors=[new_batches],
        resources=resources | resource_overrides,
        # One process a run: the steps share one Spark, where the default executor would start a JVM for each.
        executor=dg.in_process_executor,
    )


defs = build_defs()
