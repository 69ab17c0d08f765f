"""Keys with so many rows that one task should not have them all: cutting them into pieces of time.

Nothing here decides what a session is. Which keys are cut, and whether any are, changes no row of the outcome; `keys`
finds them.
"""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from sessions_dagster.core.contract import SESSION_KEY, TIMESTAMP, SessionRules
from sessions_dagster.core.keys import IS_LARGE
from sessions_dagster.core.sessionize import PIECE, piece_of


def cut_into_pieces(rows: DataFrame, large_keys: Sequence[Row], rules: SessionRules) -> DataFrame:
    """Cut some keys into pieces as long as the timeout, as `assign_sessions_in_pieces` takes them.

    Under a timeout of hours a piece is a good part of a day, and a key is cut into few.

    Args:
        rows: `user_id`, `product_code` (string), `timestamp` (timestamp), and any other columns.
        large_keys: Rows of `user_id, product_code`.
        rules: The session rules.

    Returns:
        The rows with `piece` (long, see `sessionize.PIECE`) added.
    """
    keys = _frame_of(large_keys, rows).withColumn(IS_LARGE, F.lit(True))
    marked = rows.join(F.broadcast(keys), [*SESSION_KEY], "left")
    return marked.withColumn(PIECE, F.when(F.col(IS_LARGE), piece_of(F.col(TIMESTAMP), rules))).drop(IS_LARGE)


def of_large_keys(rows: DataFrame, large_keys: Sequence[Row]) -> DataFrame:
    """The rows (`user_id, product_code` and any other columns) of some keys (rows of `user_id, product_code`)."""
    return rows.join(F.broadcast(_frame_of(large_keys, rows)), [*SESSION_KEY], "left_semi")


def _frame_of(keys: Sequence[Row], rows: DataFrame) -> DataFrame:
    """Some keys, to join with rows."""
    return rows.sparkSession.createDataFrame(keys, rows.select(*SESSION_KEY).schema)
