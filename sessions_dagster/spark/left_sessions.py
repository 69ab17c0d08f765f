"""Sessions with a server of Spark Connect that a killed run has left: what is noted of them, and how they are ended.

The server does not notice that a run was killed, and goes on with its query. That the query can commit nothing wrong is
seen to elsewhere; here it is ended, so that it takes no time from the next run.
"""

import json
import logging
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from pyspark.sql import SparkSession

from sessions_dagster.spark.connect import is_on_this_machine, wait_a_second
from sessions_dagster.spark.failures import SPARK_ERRORS
from sessions_dagster.spark.tuning import is_remote

if TYPE_CHECKING:
    from pyspark.sql.connect.client import SparkConnectClient

logger = logging.getLogger(__name__)

_FAILURES: Final[tuple[type[Exception], ...]] = (ImportError, *SPARK_ERRORS)


def remote_session(spark: SparkSession) -> str | None:
    """What is noted of a session, without secrets, so that another process can end it.

    Args:
        spark: Any session.

    Returns:
        A text for `end_left_session`. None if its Spark ends with this process, or if its address is not known, as with
        a channel of somebody else.
    """
    if not is_remote(spark):
        return None
    client, endpoint = cast("Any", spark).client, _endpoint(spark)
    if endpoint is None:
        return None
    return json.dumps(
        {
            "endpoint": endpoint,
            "use_ssl": str(client._builder.use_ssl).lower(),
            "session_id": client._session_id,
            "user_id": quote(client._user_id or ""),
        }
    )


def end_left_session(spark: SparkSession, note: str) -> None:
    """End the session of a run that has died, and with it what its server still computes for it.

    A server that is gone has ended its sessions. If it cannot be told for another reason, that is logged. Only a server
    on this machine, or the one that is used now, is told: each is given the token of the environment, and who may write
    into the warehouse must not choose to whom. The session that is here now is not ended.

    Args:
        spark: The session of the run that is here now.
        note: What `remote_session` said of it; what a run that was killed wrote only half is ignored.
    """
    if note == remote_session(spark):
        return
    try:
        noted = json.loads(note)
        # The token is that of the environment.
        of_server = "sc://{endpoint}".format(**noted)
        address = "sc://{endpoint}/;use_ssl={use_ssl};session_id={session_id};user_id={user_id}".format(**noted)
    except (ValueError, KeyError, TypeError):
        return
    if not (is_on_this_machine(of_server) or noted["endpoint"] == _endpoint(spark)):
        logger.warning("a run that was killed has left a session at %s, which is not told to end it", of_server)
        return
    try:
        client = _client(address if noted["user_id"] else address.removesuffix(";user_id="))
        try:
            client.release_session()
        finally:
            client.close()
    except _FAILURES as error:
        logger.warning(
            "a run that was killed has left a session at %s, which could not be ended: %s",
            noted["endpoint"],
            str(error).strip().partition("\n")[0],
        )
    else:
        logger.info("ended the session of a run that was killed, at %s", noted["endpoint"])


def _endpoint(spark: SparkSession) -> str | None:
    """The host and port of the server of a session, if there is one and they are known."""
    if not is_remote(spark):
        return None
    endpoint: str | None = getattr(cast("Any", spark).client._builder, "endpoint", None)  # it has no reader of its own
    return endpoint


def _client(address: str) -> "SparkConnectClient":
    from pyspark.sql.connect.client import SparkConnectClient  # noqa: PLC0415 (needs packages that not everybody has)

    client = SparkConnectClient(address)
    wait_a_second(client)
    return client
