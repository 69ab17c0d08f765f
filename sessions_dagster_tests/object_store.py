"""Local S3 servers, for tests of batches and tables: moto in this process, or versitygw beside it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
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


VERSITYGW: Final = shutil.which("versitygw", path=f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}")
"""A server that checks signatures and conditions as S3 does, a program in Go that `make test-s3` builds."""

_KEY, _SECRET = "anybody", "a-secret-of-tests"


@dataclass(frozen=True)
class StrictServer:
    """A running versitygw, whose buckets are folders.

    Attributes:
        address: Where it answers.
        folder: The folder of the buckets.
    """

    address: str
    folder: Path

    def bucket(self) -> str:
        """The URI of a new, empty bucket."""
        name = f"bucket-{next(_NUMBERS)}"
        (self.folder / name).mkdir()
        return f"s3a://{name}"


@contextmanager
def strict_s3_server() -> Iterator[StrictServer]:
    """Serve the buckets of a new folder, with AWS variables that point to the server, until the context ends."""
    assert VERSITYGW is not None
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        keys = {"ROOT_ACCESS_KEY": _KEY, "ROOT_SECRET_KEY": _SECRET}
        command = [VERSITYGW, "--port", address, "--quiet", "posix", folder]
        server = subprocess.Popen(command, env={**os.environ, **keys}, stdout=subprocess.DEVNULL)
        try:
            _wait_for(address)
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                environment.delenv(name)
            environment.setenv("AWS_ENDPOINT_URL", f"http://{address}")
            environment.setenv("AWS_ACCESS_KEY_ID", _KEY)
            environment.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
            yield StrictServer(address, Path(folder))
        finally:
            server.terminate()
            server.wait()


def _wait_for(address: str) -> None:
    host, port = address.split(":")
    for _ in range(100):
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"versitygw does not answer at {address}")


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
