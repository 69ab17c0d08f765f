"""The code location of this project: `dagster dev` and every `dagster` command start here.

It is the one module that reads the settings from the environment when it is imported. Whoever has definitions of their
own imports `sessions_dagster.build_defs` instead, and merges.

`python -m sessions_dagster.definitions` only loads it, and so says what is wrong with the settings, if something is.
Then it looks at `DAGSTER_HOME`, which Dagster's own commands do before they load anything.
"""

import os
import sys
import warnings
from pathlib import Path
from types import TracebackType

import dagster as dg

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.errors import SettingsError


def _product() -> dg.Definitions:
    """The product that the environment describes.

    Raises:
        DagsterInvalidDefinitionError: If one of them is wrong. Dagster shows its own errors as they are, and wraps all
            others, so that what is wrong would be the last of many lines.
    """
    try:
        return build_defs(SessionsConfig.from_env())
    except SettingsError as error:
        refused = dg.DagsterInvalidDefinitionError(str(error))
        _show_without_traceback(refused)
        raise refused from None


def _show_without_traceback(refused: Exception) -> None:
    """Have Python say only the sentence, if nobody handles this error: a command ends with it then."""
    show = sys.excepthook

    def show_sentence(type_: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if error is refused:
            sys.stderr.write(f"{error}\n")
        else:
            show(type_, error, traceback)

    sys.excepthook = show_sentence


# A beta parameter that Dagster itself uses when it resolves `--select '*'`.
warnings.filterwarnings("ignore", "Parameter `include_sources` of function `AssetSelection.all`", dg.BetaWarning)

defs = dg.Definitions.merge(
    _product(),
    # One process a run: its steps share one Spark, where the default executor would start one for each step.
    dg.Definitions(executor=dg.in_process_executor),
)

if __name__ == "__main__":
    home = os.environ.get("DAGSTER_HOME", "")
    folder = Path(os.path.expanduser(home))  # noqa: PTH111 - as Dagster does, and that of Path fails for unknown users
    if home and not (folder.is_absolute() and folder.is_dir()):
        sys.exit(
            "DAGSTER_HOME (the folder in which Dagster keeps its settings and the history of runs) must be "
            f"the absolute path of a folder that exists, not {home!r}."
        )
