"""Where batches arrive and where tables are: the one module that knows about paths, URIs and file systems.

A place is an absolute path for a local folder and a URI for anything else, spelled as Spark wants it (`s3a://`), which
delta-rs understands as well. Only pyarrow, which lists and opens the input files, wants `s3://`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

_LOCK_FILE: Final = ".writing.lock"


@dataclass(frozen=True)
class Warehouse:
    """The folder that holds the tables.

    Attributes:
        root: A local folder (relative to the working directory, absolute, or `file://`) or a URI; kept in the spelling
            of this module.
    """

    root: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", _canonical(self.root))

    @property
    def raw_events(self) -> str:
        """The table of accepted events, one slice per batch."""
        return f"{self.root}/raw_events"

    @property
    def rejected_events(self) -> str:
        """The quarantine, one slice per batch."""
        return f"{self.root}/rejected_events"

    @property
    def sessionized_events(self) -> str:
        """The table of events with their sessions."""
        return f"{self.root}/sessionized_events"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Waits until no other process writes to a local warehouse, and keeps others waiting until the context ends.

        On a local file system two processes can both commit the same Delta version, and one commit is lost. Elsewhere
        this does nothing: object stores have an exclusive put, and the slower writer fails.
        """
        if not _is_local(self.root):
            yield
            return
        Path(self.root).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(self.root, _LOCK_FILE)):
            yield


@dataclass(frozen=True)
class BatchFile:
    """A data file of a batch.

    Attributes:
        uri: Where it is.
        size: Its bytes.
    """

    uri: str
    size: int
    _filesystem: FileSystem = field(repr=False, compare=False)
    _path: str = field(repr=False, compare=False)

    @property
    def spark_path(self) -> str:
        """The file for Spark's readers, which take every path for a pattern."""
        return re.sub(r"([\\{}\[\]*?])", r"\\\1", self.uri)

    def open(self) -> Any:
        """The file's bytes, as a seekable `pyarrow.NativeFile`."""
        return self._filesystem.open_input_file(self._path)

    def open_stream(self) -> Any:
        """The file's content from its start, as a `pyarrow.NativeFile`, decompressed as its name says (`.gz`)."""
        return self._filesystem.open_input_stream(self._path)


@dataclass(frozen=True)
class InputRoot:
    """The folder that batches arrive in, each in a folder `date=YYYY-MM-DD`.

    Attributes:
        root: A local folder (relative to the working directory, absolute, or `file://`) or a URI; kept in the spelling
            of this module.
    """

    root: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", _canonical(self.root))

    def batch_folder(self, day: date) -> str:
        """The folder of the batch of `day`, there or not."""
        return f"{self.root}/date={day.isoformat()}"

    def batch_files(self, day: date) -> list[BatchFile]:
        """The data files of a batch, in the order of their paths.

        Files in sub-folders count, and so do files without a byte. What has a name that starts with `_` or `.`, file or
        folder, does not: by Spark's convention these are marks and unfinished work, such as `_SUCCESS`.

        Raises:
            FileNotFoundError: If there is no such folder.
            OSError: If it cannot be listed.
        """
        folder = self.batch_folder(day)
        filesystem, path = _filesystem(folder)
        found = filesystem.get_file_info(FileSelector(path, recursive=True))
        return [
            BatchFile(folder + info.path.removeprefix(path), info.size, filesystem, info.path)
            for info in sorted(found, key=lambda info: info.path)
            if info.type == FileType.File and not _is_hidden(info.path.removeprefix(path))
        ]


def _canonical(place: str) -> str:
    if place.startswith("file:"):
        return str(Path(unquote(urlsplit(place).path)).resolve())
    if _is_local(place):
        return str(Path(place).resolve())
    return re.sub("^s3://", "s3a://", place).rstrip("/")


def _is_local(place: str) -> bool:
    return "://" not in place


def _filesystem(place: str) -> tuple[FileSystem, str]:
    """The file system of a place for pyarrow, and the place's path in it."""
    if _is_local(place):
        return LocalFileSystem(), place
    filesystem, path = FileSystem.from_uri(re.sub("^s3a://", "s3://", place))
    return filesystem, path


def _is_hidden(path_in_batch: str) -> bool:
    return any(name.startswith(("_", ".")) for name in path_in_batch.split("/"))
