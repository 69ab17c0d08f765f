"""What the tests on a server of Google's storage share: the server, and a Spark with the connector for it.

Nothing in the product knows of it: where the server is, and that it wants no credentials, is in variables of delta-rs
and pyarrow, and in properties of Spark's connector.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyspark.sql import SparkSession

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster_tests.conftest import FOR_MANY_SMALL_QUERIES
from sessions_dagster_tests.maven import downloaded
from sessions_dagster_tests.s3.proxy import Proxy, proxy_of

SERVER: Final = shutil.which("fake-gcs-server", path=f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}")
"""A server that speaks the language of Google's storage, a program in Go that `make test-gcs` builds."""

CONNECTOR: Final = (
    "com.google.cloud.bigdataoss:gcs-connector:hadoop3-2.2.26:shaded",
    "cbaa2773283c2237f933f48deb77a6f912619e367b26efe186aee74f4b35d89c",
)

OF_CONNECTOR: Final = {
    "spark.hadoop.fs.gs.impl": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFileSystem",
    "spark.hadoop.fs.AbstractFileSystem.gs.impl": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFS",
    # The defaults of Hadoop 3.5 are for a connector of its own, and have units, which this one does not understand.
    "spark.hadoop.fs.gs.block.size": "67108864",
    "spark.hadoop.fs.gs.inputstream.inplace.seek.limit": "8388608",
    "spark.hadoop.fs.gs.inputstream.min.range.request.size": "2097152",
    "spark.hadoop.fs.gs.outputstream.buffer.size": "8388608",
    "spark.hadoop.fs.gs.rewrite.max.chunk.size": "536870912",
}
"""What everybody sets who uses this connector with Spark 4.2."""

OF_SERVER: Final = {
    "spark.hadoop.fs.gs.auth.null.enable": "true",
    "spark.hadoop.fs.gs.auth.service.account.enable": "false",
    "spark.hadoop.fs.gs.project.id": "tests",
    # By default the connector tries a request again for minutes.
    "spark.hadoop.fs.gs.http.max.retry": "1",
}

_NUMBERS: Final = count(1)


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the server answers; the variables point there, too."""
    assert SERVER is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    names = ["-public-host", address, "-external-url", f"http://{address}"]
    command = [SERVER, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), *names]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        key = tmp_path_factory.mktemp("key") / "key.json"
        key.write_text(json.dumps(_key(address)))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
            environment.setenv("GOOGLE_SERVICE_ACCOUNT", str(key))
            environment.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://{address}")
            yield address
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def bucket(address: str) -> str:
    """The URI of a new, empty bucket."""
    name = f"bucket-{next(_NUMBERS)}"
    content, headers = json.dumps({"name": name}).encode(), {"Content-Type": "application/json"}
    urlopen(Request(f"http://{address}/storage/v1/b?project=tests", content, headers)).close()
    return f"gs://{name}"


@pytest.fixture(scope="session")
def running_proxy(address: str) -> Iterator[Proxy]:
    with proxy_of(address) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy: Proxy) -> Iterator[Proxy]:
    """What Spark has in front of the server."""
    running_proxy.reset()
    yield running_proxy
    running_proxy.reset()


@pytest.fixture(scope="session")
def spark(running_proxy: Proxy) -> Iterator[SparkSession]:
    """A small local Spark with the connector, the same for the whole run."""
    address = {"spark.hadoop.fs.gs.storage.root.url": f"http://{running_proxy.address}/"}
    jar = {"spark.jars": str(downloaded(*CONNECTOR))}
    conf = {**FOR_MANY_SMALL_QUERIES, **OF_CONNECTOR, **OF_SERVER, **address, **jar}
    with spark_session(SparkSettings("local[2]", shuffle_partitions=1, extra_conf=conf)) as session:
        yield session


def _key(address: str) -> dict[str, object]:
    """The key of a service account that nobody knows. delta-rs finds the address of the server in it."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "client_email": "nobody@tests.iam.gserviceaccount.com",
        "client_id": "1",
        "private_key": private,
        "private_key_id": "1",
        "token_uri": f"http://{address}/token",
        "gcs_base_url": f"http://{address}",
        "disable_oauth": True,
    }


def _wait_for(port: int) -> None:
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"fake-gcs-server does not answer at port {port}")
