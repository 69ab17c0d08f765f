"""The Dagster layer: assets, checks, jobs, schedules, sensors and resources, made for one product by `build_defs`.

Only this package and `component` know Dagster. What belongs here is what Dagster has to know; whatever reads or
writes a table is in `pipeline`, `storage` and `quality`.
"""

import dagster as dg

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.alerts import build_alerts_sensor
from sessions_dagster.defs.assets import build_assets
from sessions_dagster.defs.checks import build_checks
from sessions_dagster.defs.forget import build_forget
from sessions_dagster.defs.maintenance import build_maintenance
from sessions_dagster.defs.missing_batches import build_batches_check, build_missing_batches_sensor
from sessions_dagster.defs.repair import build_repair_jobs
from sessions_dagster.defs.resources import build_resources
from sessions_dagster.defs.sensors import build_sensor


def build_defs(config: SessionsConfig) -> dg.Definitions:
    """Everything that Dagster has to know of one product.

    There is no executor in it, so that it can be merged with other definitions (`dagster.Definitions.merge`). Give the
    whole `dagster.in_process_executor`: the steps of a run share one Spark then, where Dagster's default starts a
    process with a Spark of its own for each step.

    Every step that writes is in the pool `warehouse`, which needs a limit of 1 in the Dagster instance (see
    `deploy/local/dagster.yaml`): it keeps two runs from writing the same table at once.

    Args:
        config: The settings of the product. With a `key_prefix` every name in the result begins with it.
    """
    maintenance = build_maintenance(config)
    return dg.Definitions(
        assets=build_assets(config).all,
        asset_checks=[*build_checks(config), build_batches_check(config)],
        jobs=[*maintenance.jobs, *build_repair_jobs(config), build_forget(config)],
        schedules=maintenance.schedules,
        sensors=[build_sensor(config), build_missing_batches_sensor(config), build_alerts_sensor(config)],
        resources=build_resources(config),
    )
