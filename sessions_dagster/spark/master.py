"""Spark's master: which URLs name one, how many cores a local one has, and whether one of Spark's own answers.

The address of a server of Spark Connect stands in the place of a master, see `connect`.
"""

import os
import re
import socket
from typing import Final

from sessions_dagster.errors import SparkUnavailableError
from sessions_dagster.spark.connect import is_address, is_on_this_machine

MASTERS: Final = (
    "a master URL such as local[*], local[4], spark://host:7077, yarn or k8s://https://host:443, or the address of a "
    "server of Spark Connect such as sc://host:15002"
)
"""What a master may be, for a message."""

_MAX_PORT: Final = 65_535

_COUNT: Final = r"[1-9][0-9]{0,4}"
_LOCAL: Final = re.compile(rf"local(?:\[({_COUNT}|\*)(?:, *{_COUNT})?\])?")
_LOCAL_CLUSTER: Final = re.compile(r"local-cluster\[ *[1-9][0-9]{0,4} *, *[1-9][0-9]{0,4} *, *[1-9][0-9]{0,8} *\]")
_STANDALONE: Final = re.compile(r"spark://[^\s,/:]+:[0-9]+(,[^\s,/:]+:[0-9]+)*")
"""The URL of Spark's own master: addresses of one, or of several of which one leads."""
_KUBERNETES: Final = re.compile(r"k8s://(https?://)?(\[[0-9a-fA-F:.]+\]|[^\s/:,?#\[\]]+)(:[0-9]+)?(/[^\s?#]*)?")

_PORT: Final = re.compile(r":([0-9]+)(?=[,/]|$)")

_ANSWER_SECONDS: Final = 5
"""How long a master has to accept a connection."""


def is_master(value: object) -> bool:
    """Whether Spark can start with a value as its master, as far as the value alone says."""
    if not isinstance(value, str):
        return False
    if not any(each.fullmatch(value) for each in (_LOCAL, _LOCAL_CLUSTER, _STANDALONE, _KUBERNETES)):
        return value == "yarn" or is_address(value)
    return all(len(port) <= len(str(_MAX_PORT)) and 0 < int(port) <= _MAX_PORT for port in _PORT.findall(value))


def local_cores(master: str) -> int | None:
    """The number of cores of a local master (`local`, `local[2]`, `local[*]`, `local[2,3]`); None for all others."""
    match = _LOCAL.fullmatch(master)
    if match is None:
        return None
    cores = match.group(1) or "1"
    return (os.cpu_count() or 1) if cores == "*" else int(cores)


def is_elsewhere(master: str) -> bool:
    """Whether Spark works on other machines than this one: a cluster, or a server of Spark Connect on another host."""
    if is_address(master):
        return not is_on_this_machine(master)
    return master == "yarn" or any(each.fullmatch(master) is not None for each in (_STANDALONE, _KUBERNETES))


def check_answers(master: str) -> None:
    """Check that a master of Spark's own kind answers. Spark itself would try for more than a minute.

    Raises:
        SparkUnavailableError: If none of its addresses does.
    """
    if not _STANDALONE.fullmatch(master):
        return
    failed = []
    for address in master.removeprefix("spark://").split(","):
        host, port = address.rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
        except OSError as error:
            failed.append(f"{address}: {error}")
        else:
            return
    raise SparkUnavailableError(
        f"No Spark master answers at {master} ({'; '.join(failed)}). It is the setting spark.master "
        "(SESSIONS_SPARK_MASTER): start that master, or name another one."
    )
