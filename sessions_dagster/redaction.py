"""Hiding what may be a secret, before a value is shown in a message, in a log, or in Dagster's UI.

Secrets belong in the environment, and what has one is refused where that is possible. But it is shown to say so.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "..."
"""What stands in the place of a secret."""

_WORDS: Final = (
    r"secret|passw|pwd|token|credential|signature|private|authorization|\bsig\b|\bsas\b"
    r"|(?:access|account|api)key|(?<![a-z])key(?![a-z])"
)

_SECRET_NAME: Final = re.compile(_WORDS, re.IGNORECASE)

_ASSIGNED: Final = re.compile(
    rf"""([\w.-]*(?:{_WORDS})[\w.-]*["']?\s*[=:]\s*["']?)(?![=:\s/])[^\s,;&"'}}]+""", re.IGNORECASE
)
"""A name of a secret with a value behind it, as in properties, queries, JSON and the text of a mapping."""

_URI: Final = re.compile(r"(?<![\w.+-])([a-z][a-z0-9.+-]*):((?=/)[^\s'\"]+|[^\s'\"]*@[^\s'\"]*)", re.IGNORECASE)
"""What has a scheme: with slashes, or without them and with what may be a user."""

_ADDRESS: Final = re.compile(r"\bsc:[^\s'\"]*", re.IGNORECASE)
"""The address of a server of Spark Connect, whose parameters may be without slashes in front."""

_WITH_CONTAINER: Final = re.compile(r"(?:abfs|wasb)s?", re.IGNORECASE)
"""The schemes of URIs in which what stands before the `@` is the name of a container."""

_PARAMETERS: Final = re.compile(r"([?#;]).*", re.DOTALL)
_HOST: Final = re.compile(r"(?:[^:]*|\[[0-9A-Fa-f:.]*\])(?::[0-9]*)?(?:,[^:]*:[0-9]*)*")


def redacted(value: Any) -> Any:
    """A value without what may be a secret, to be shown.

    In texts these are the user and the parameters of a URI, and what is assigned to a name such as `password`; in a
    mapping the values of such names. All else stays as it is.

    Args:
        value: Anything. Lists, tuples and mappings are looked into.
    """
    if isinstance(value, str):
        return _in_text(value)
    if isinstance(value, os.PathLike):
        shown = _in_text(os.fspath(value))
        return value if shown == os.fspath(value) else shown
    if isinstance(value, Mapping):
        return {name: redacted_property(str(name), each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(redacted(each) for each in value)
    return value


def redacted_property(name: str, value: Any) -> Any:
    """The value of a property, or what is shown in its place if its name or itself says that it may be a secret."""
    return HIDDEN if _SECRET_NAME.search(name) else redacted(value)


def _in_text(text: str) -> str:
    shown = _URI.sub(lambda match: f"{match[1]}:{_without_user(match[1], match[2])}", text)
    shown = _ADDRESS.sub(lambda match: _PARAMETERS.sub(rf"\1{HIDDEN}", match[0]), shown)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", shown)


def _without_user(scheme: str, rest: str) -> str:
    """What follows the scheme of a URI, without a user and without parameters."""
    slashes = re.match("/*", rest)
    assert slashes is not None, "the pattern matches every text"
    place = rest[slashes.end() :]
    first, _, _ = re.split("([/?#;]|$)", place, maxsplit=1)
    user, at, host = place.rpartition("@")
    is_container = _WITH_CONTAINER.fullmatch(scheme) is not None and not re.search("[:/?#;]", user)
    if at and not is_container:
        # A mark in a secret cannot be told from one behind a path.
        return slashes[0] + (HIDDEN if re.search("[?#;]", place) else f"{HIDDEN}@{host}")
    if len(slashes[0]) == len("//") and not _HOST.fullmatch(first):
        # A key whose secret has a slash in it.
        return slashes[0] + HIDDEN
    return slashes[0] + _PARAMETERS.sub(rf"\1{HIDDEN}", place)
