"""The job `land_and_apply`, and the requests of its runs: the plans of the sensor in the words of Dagster."""

from typing import Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import MATERIALIZED, RAW_EVENTS, asset_key
from sessions_dagster.defs.run_planning import RunPlan
from sessions_dagster.model.dates import day_ranges

JOB_NAME: Final = "land_and_apply"
"""The name of the job, without the prefix of its product."""

BATCHES_TAG: Final = "batches"
"""The tag of a requested run that shows its batches. The list of runs cuts long tags off, so its name is short."""

WHY_TAG: Final = "why"
"""The tag of a requested run that says why its batches are requested."""


def build_batch_job(config: SessionsConfig) -> UnresolvedAssetJobDefinition:
    """The job whose runs the sensor requests: everything that is to be done for some batches.

    Without it the runs would be of Dagster's job of all assets, whose name `__ASSET_JOB` tells nobody anything.
    """
    return dg.define_asset_job(
        config.prefixed(JOB_NAME),
        dg.AssetSelection.assets(*_assets(config)),
        description="Lands batches, applies them and refreshes the sessions: what the sensor requests. To materialize "
        "days by hand, start from the graph of the assets: there a range of days is one run, and here each of its days "
        "would be a run.",
    )


def run_request(config: SessionsConfig, plan: RunPlan) -> dg.RunRequest:
    """The request of a planned run. Batches that have landed are only applied."""
    (batches,) = day_ranges(plan.days)
    days = {ASSET_PARTITION_RANGE_START_TAG: str(plan.first), ASSET_PARTITION_RANGE_END_TAG: str(plan.last)}
    is_range = plan.first != plan.last
    return dg.RunRequest(
        plan.run_key,
        job_name=config.prefixed(JOB_NAME),
        partition_key=None if is_range else str(plan.first),
        asset_selection=_assets(config, but=RAW_EVENTS) if plan.is_landed else _assets(config),
        tags={BATCHES_TAG: batches, WHY_TAG: " and ".join(plan.why), **(days if is_range else {})},
    )


def _assets(config: SessionsConfig, but: str | None = None) -> list[dg.AssetKey]:
    return [asset_key(config, name) for name in MATERIALIZED if name != but]
