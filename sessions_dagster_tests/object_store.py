"""A local S3 server, for tests of batches and tables on an object store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import pytest
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer

_REGION: Final = "us-east-1"
_NUMBERS: Final = count(1)


@dataclass(frozen=True)
class Bucket:
    """A new, empty bucket of the server. Objects are written to it directly, not over the network."""

    name: str = field(default_factory=lambda: f"bucket-{next(_NUMBERS)}")

    def __post_init__(self) -> None:
        _backend("s3").create_bucket(self.name, _REGION)

    @property
    def uri(self) -> str:
        """The URI of the bucket."""
        return f"s3://{self.name}"

    def put(self, key: str, content: bytes = b"rows") -> None:
        """Write or overwrite an object."""
        _backend("s3").put_object(self.name, key, content)

    def remove(self, key: str) -> None:
        """Remove an object."""
        _backend("s3").delete_object(self.name, key)


@contextmanager
def s3_server() -> Iterator[ThreadedMotoServer]:
    """Serve the buckets of this process, with AWS variables that point to the server, until the context ends."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "anybody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server
    server.stop()


def key_without_rights() -> tuple[str, str]:
    """An access key and its secret, of a user without any permission on a server that checks permissions."""
    user = f"user-{next(_NUMBERS)}"
    _backend("iam").create_user(_REGION, user)
    key = _backend("iam").create_access_key(user)
    return key.access_key_id, key.secret_access_key


def _backend(service: Any) -> Any:
    return get_backend(service)[DEFAULT_ACCOUNT_ID]["aws"]
