"""Keys with so many rows that one task should not have them all: cutting them into pieces of time.

Nothing here decides what a session is. Which keys are cut, and whether any are, changes no row of the outcome; `keys`
finds them.
"""

from collections.abc import Sequence
from typing import Final

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from sessions_dagster.core.contract import SESSION_KEY, TIMESTAMP, SessionRules
from sessions_dagster.core.sessionize import PIECE, REACH, slot_of

_IS_LARGE: Final = "is_large"


def cut_into_pieces(rows: DataFrame, large_keys: Sequence[Row], rules: SessionRules) -> DataFrame:
    """Cut some keys into pieces of a slot each, as `assign_sessions_in_pieces` takes them.

    Half of all intervals then are in two pieces; of shorter pieces each would be in more. Under a timeout of hours a
    piece is a good part of a day, and a key is cut into few.

    Args:
        rows: `user_id`, `product_code` (string), `timestamp`, `reach` (timestamp), and any other columns.
        large_keys: Rows of `user_id, product_code`.
        rules: The session rules.

    Returns:
        The rows with `piece` (long) added. An interval of these keys is also in later pieces that it reaches into.
    """
    keys = rows.sparkSession.createDataFrame(large_keys, rows.select(*SESSION_KEY).schema)
    marked = rows.join(F.broadcast(keys.withColumn(_IS_LARGE, F.lit(True))), [*SESSION_KEY], "left")
    pieces = F.sequence(slot_of(F.col(TIMESTAMP), rules), slot_of(F.coalesce(REACH, TIMESTAMP), rules))
    return marked.withColumn(PIECE, F.explode_outer(F.when(F.col(_IS_LARGE), pieces))).drop(_IS_LARGE)
