"""The job `forget`, which removes users from all tables. The work is in `pipeline.forget`.

Neither the log nor the metadata of a run has the id of a user; the configuration of the run does.
"""

from typing import Final

import dagster as dg
from pydantic import Field

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import WAREHOUSE_POOL, asset_key
from sessions_dagster.defs.resources import resource_keys, resources_of
from sessions_dagster.defs.retries import retry_or_fail
from sessions_dagster.pipeline.forget import forget_users
from sessions_dagster.pipeline.summaries import forget_summary

FORGET_JOB: Final = "forget"
"""The name of the job, without the prefix of its product."""

_FORGET_OP: Final = "forget_users"


class ForgetConfig(dg.Config):
    """Whom a run of the job `forget` removes. Dagster's Launchpad opens with this field and its default."""

    users: list[str] = Field(
        default=[],
        description="The ids of the users, as in user_id. With none, whoever is on the list is removed once more.",
    )


def build_forget(product: SessionsConfig) -> dg.JobDefinition:
    """The job that removes users from the tables of a product."""

    @dg.op(
        name=product.prefixed(_FORGET_OP),
        pool=product.prefixed(WAREHOUSE_POOL),
        required_resource_keys=resource_keys(product),
    )
    def forget_users_(context: dg.OpExecutionContext, config: ForgetConfig) -> None:
        """Remove users from all tables, and put them on the list of those whom no landing lets in."""
        with retry_or_fail(context):
            resources = resources_of(context, product)
            report = forget_users(resources.spark, resources.warehouse, config.users)
            context.log.info(forget_summary(report))
            for uri, rows in report.removed.items():
                metadata = {"forgotten_rows": rows, "users_on_the_list": report.listed}
                context.log_event(dg.AssetObservation(asset_key(product, uri.rpartition("/")[2]), metadata=metadata))

    @dg.job(name=product.prefixed(FORGET_JOB), tags={"sessions/work": "forget"})
    def forget_job() -> None:
        """Removes users from all tables, and keeps them out. The run has their ids: delete it afterwards."""
        forget_users_()

    return forget_job
