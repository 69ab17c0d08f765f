"""The code location of this project: `dagster dev` and every `dagster` command start here.

It is the one module that reads the settings from the environment when it is imported. Whoever has definitions of their
own imports `sessions_dagster.build_defs` instead, and merges.
"""

import dagster as dg

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs

defs = dg.Definitions.merge(
    build_defs(SessionsConfig.from_env()),
    # One process a run: its steps share one Spark, where the default executor would start one for each step.
    dg.Definitions(executor=dg.in_process_executor),
)
