"""Java's archive of loaded classes, without which each run spends some seconds on loading them.

Spark and Delta are some 18,000 classes, and Java reads, checks and links them at each start. It can keep them as they
are in memory then ("class data sharing"), and map that file at later starts. Here belongs where the archive is, how it
is made, and how Java is told of it. Whether it fits, Java finds out itself: with another build or other JARs it goes on
without.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sessions_dagster.runtime.java import Java

_QUIET: Final = "-Xlog:cds*=off"
"""Java warns of each class that it does not keep, and where an archive does not fit."""


@dataclass(frozen=True)
class ClassArchive:
    """An archive, in two files: one of Java's own classes, which not every Java comes with, and one of all others.

    Attributes:
        folder: Where both are, or are to be.
    """

    folder: Path

    @property
    def is_there(self) -> bool:
        """Whether it has been made."""
        return self._of_all_else.exists()

    def java_options(self) -> str:
        """What makes a Java use it, as one line for Spark; nothing where it is not there."""
        files = f"{self._of_java}{os.pathsep}{self._of_all_else}"
        return f'{_QUIET} "-XX:SharedArchiveFile={files}"' if self.is_there else ""

    @contextmanager
    def unfinished(self, java: Java) -> Iterator[Path | None]:
        """A file for a Java to write its classes to, which is gone after the context, unless it is finished there.

        Args:
            java: That Java.

        Yields:
            The file. None where no archive can be made: no right to write there, a Java that knows none.
        """
        scratch = self._scratch()
        if scratch is None:
            yield None
            return
        with scratch as name:
            is_possible = self._of_java.exists() or self._dump_java(java, Path(name, self._of_java.name))
            yield Path(name, self._of_all_else.name) if is_possible else None

    def recording_options(self, file: Path) -> str:
        """What makes a Java write what it has loaded to a file when it ends, as one line for Spark."""
        return f'{_QUIET} "-XX:SharedArchiveFile={self._of_java}" "-XX:ArchiveClassesAtExit={file}"'

    def finish(self, file: Path) -> None:
        """Make the archive of what a Java has written, if it has: no start finds half of one."""
        if file.exists():
            file.replace(self._of_all_else)

    @property
    def _of_java(self) -> Path:
        return self.folder / "java.jsa"

    @property
    def _of_all_else(self) -> Path:
        return self.folder / "classes.jsa"

    def _scratch(self) -> TemporaryDirectory[str] | None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return TemporaryDirectory(dir=self.folder)
        except OSError:
            return None

    def _dump_java(self, java: Java, file: Path) -> bool:
        """Java notes in the second file where the first one is, and what it is: it must have its place before."""
        command = [str(java.executable), "-Xshare:dump", f"-XX:SharedArchiveFile={file}"]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            return False
        # Where another process has been first, its file stays.
        with suppress(OSError):
            os.link(file, self._of_java)
        return self._of_java.exists()


def class_archive(java: Java, spark_home: Path) -> ClassArchive:
    """The archive of a Java and a Spark as they are now; it is in the Python environment, and goes with it."""
    jars = sorted(spark_home.glob("jars/*"))
    of = [java.home, java.build, *((jar, jar.stat().st_size, jar.stat().st_mtime_ns) for jar in jars)]
    name = hashlib.sha256(repr(of).encode()).hexdigest()[:16]
    return ClassArchive(Path(sys.prefix, "share", "sessions_dagster", "classes", name))
