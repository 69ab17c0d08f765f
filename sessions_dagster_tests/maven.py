"""JARs for tests, downloaded one by one with the Ivy that Spark brings for its own packages."""

import hashlib
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sessions_dagster.s3 import jars_of_spark
from sessions_dagster.spark.java import use_java
from sessions_dagster.spark.versions import installed_lane

_DOWNLOADS: Final = Path.home() / ".cache" / "sessions-dagster"

_WANTED: Final = """<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">
  <info organisation="sessions_dagster" module="tests"/>
  <dependencies>
    <dependency org="{group}" name="{name}" rev="{version}" transitive="false">
      <artifact name="{name}" type="jar" {classifier}/>
    </dependency>
  </dependencies>
</ivy-module>"""


def downloaded(coordinate: str, digest: str) -> Path:
    """An artifact alone, without what it depends on.

    Args:
        coordinate: Its group, name and version in a Maven repository, and a classifier if it has one.
        digest: Its SHA-256.

    Raises:
        ValueError: If something else was downloaded.
        subprocess.CalledProcessError: If it cannot be downloaded.
    """
    group, name, version, *classifiers = coordinate.split(":")
    file = _DOWNLOADS / f"{'-'.join([name, version, *classifiers])}.jar"
    if not file.is_file():
        (ivy,) = jars_of_spark().glob("ivy-*.jar")
        classifier = "".join(f'm:classifier="{each}"' for each in classifiers)
        with TemporaryDirectory() as folder:
            wanted = Path(folder, "ivy.xml")
            wanted.write_text(_WANTED.format(group=group, name=name, version=version, classifier=classifier))
            to = str(file).replace(f"{name}-{version}", "[artifact]-[revision]")
            options = ["-ivy", str(wanted), "-cache", str(_DOWNLOADS / "ivy"), "-retrieve", to]
            subprocess.run([java(), "-cp", str(ivy), "org.apache.ivy.Main", *options], check=True)
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise ValueError(f"{file} is not the {coordinate} that it was: remove it.")
    return file


def java() -> str:
    """The Java that Spark runs on."""
    use_java(os.environ, installed_lane().newest_java)
    return str(Path(os.environ["JAVA_HOME"], "bin", "java"))
