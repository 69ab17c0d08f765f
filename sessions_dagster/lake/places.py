"""Where batches arrive and where tables are: the one module that knows about paths, URIs and file systems.

A place is an absolute path for a local folder and a URI for anything else, spelled as Spark wants it (`s3a://`, and
nothing in it stands for another letter: a blank is a blank), which delta-rs understands as well. Only pyarrow, which
lists and opens the input files, wants `s3://`, with `%20` for a blank. What others spell, `place_of` takes back.
"""

import bz2
import errno
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
from filelock import FileLock
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

# delta-rs decodes such a path once more than it encodes it, or gives up with an error of Rust.
_NOT_FOR_TABLES: Final = re.compile(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}")

_NOT_FOR_TABLES_IN_URIS: Final = re.compile(rf"{_NOT_FOR_TABLES.pattern}|[?#]")

_LEGAL: Final = "/:@=+,&;!$'()*"
"""What stands for itself in the path of a URI, beside letters, digits and a few marks."""

_LOCK_FILE: Final = ".writing.lock"

_CODECS: Final = {".bz2": "bz2", ".gz": "gzip", ".zst": "zstd"}

COMPRESSIONS: Final = tuple(_CODECS)
"""How the names of compressed files end that both pyarrow and Spark read, and as the same."""

_OTHER_COMPRESSIONS: Final = frozenset(
    {".7z", ".br", ".bz", ".deflate", ".lz4", ".lzma", ".lzo", ".snappy", ".xz", ".z", ".zip", ".zstd"}
)
"""Some of these Spark reads in formats of Hadoop's own: what the usual tools have written is nothing at all to it."""

# An object store answers in words: pyarrow has no error of its own for these.
_ANSWERS: Final = {"AWS Error NO_SUCH_BUCKET": errno.ENOENT, "AWS Error ACCESS_DENIED": errno.EACCES}

_NOT_TO_BE_READ: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
)


class PlaceError(ValueError):
    """A place that tables cannot be in."""


class StorageError(Exception):
    """The storage, or the way to it, fails. That says nothing of what lies there, and may pass.

    It is no `OSError`: those say that what lies there cannot be read.
    """


@dataclass(frozen=True)
class Warehouse:
    """The folder that holds the tables.

    Attributes:
        root: A local folder (relative to the working directory, absolute, or `file://`) or a URI; kept in the spelling
            of this module.

    Raises:
        PlaceError: If its path has a letter that delta-rs cannot cope with.
    """

    root: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", _canonical(self.root))
        refused = (_NOT_FOR_TABLES if _is_local(self.root) else _NOT_FOR_TABLES_IN_URIS).search(self.root)
        if refused is not None:
            raise PlaceError(
                f"Tables cannot be in {self.root}: delta-rs, which reads their logs, cannot open a path with "
                f"{refused[0]} in it. Point SESSIONS_WAREHOUSE_ROOT at a folder with another name."
            )

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

    @property
    def session_corrections(self) -> str:
        """The table of what became of sessions that were written before."""
        return f"{self.root}/session_corrections"

    @property
    def sessions(self) -> str:
        """The table with one row per session."""
        return f"{self.root}/sessions"

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables, there or not."""
        return (
            self.raw_events,
            self.rejected_events,
            self.sessionized_events,
            self.session_corrections,
            self.sessions,
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Waits until no other process writes to a local warehouse, and keeps others waiting until the context ends.

        On a local file system two processes can both commit the same Delta version, and one commit is lost. The same
        goes for Spark on `s3a://`: Delta's log store looks whether the file of the commit is there, and then puts it
        without a condition, whatever the store could do. There this does nothing, and the scheduler has to let one run
        write at a time, until Delta is given a log store that puts with a condition.
        """
        if not _is_local(self.root):
            yield
            return
        Path(self.root).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(self.root, _LOCK_FILE)):
            yield


@dataclass(frozen=True)
class Entry:
    """A file or a folder, as a listing shows it.

    Attributes:
        path: Its path below the folder that was listed.
        is_file: False for folders.
        size: The bytes of a file; 0 for folders.
        modified_ns: When it was last modified, in nanoseconds since 1970 (UTC). None where the file system does not
            say: object stores know no time of a folder.
    """

    path: str
    is_file: bool
    size: int
    modified_ns: int | None

    @property
    def is_hidden(self) -> bool:
        """Whether its name, or that of a folder on the way to it, starts with `_` or `.`.

        By Spark's convention these are marks and unfinished work, such as `_SUCCESS`.
        """
        return any(name.startswith(("_", ".")) for name in self.path.split("/"))

    @property
    def is_data_file(self) -> bool:
        """Whether it is among the data files of a batch."""
        return self.is_file and not self.is_hidden


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

    @property
    def suffix(self) -> str:
        """How its name ends, with the dot, and in its own letters: `.gz` says something to Spark, `.GZ` does not."""
        return PurePosixPath(self._path).suffix

    @property
    def codec(self) -> str | None:
        """What pyarrow calls the compression that its name tells of; None for that of a file as it is."""
        return _CODECS.get(self.suffix)

    @property
    def is_compressed_otherwise(self) -> bool:
        """Whether its name says that it is compressed, and not in one of the `COMPRESSIONS`."""
        return self.suffix not in _CODECS and self.suffix.casefold() in {*_CODECS, *_OTHER_COMPRESSIONS}

    def open(self) -> Any:
        """The file's bytes, as a seekable `pyarrow.NativeFile`.

        Raises:
            OSError: If there is no such file, or none that may be read.
            StorageError: If the storage fails, now or when the file is read.
        """
        with _storage_errors():
            return pa.PythonFile(_StoredBytes(self._filesystem.open_input_file(self._path)), "r")

    def open_stream(self) -> Any:
        """The file's content from its start, as a binary stream, decompressed as its name says (`.gz`).

        Raises:
            OSError: If there is no such file, or none that may be read.
            EOFError: When it is read, if it ends too early.
            StorageError: If the storage fails, now or when the file is read.
        """
        if self.codec == "bz2":
            # pyarrow fails where such a file has several parts, as tools write that compress on all cores.
            return bz2.BZ2File(self.open())
        return pa.CompressedInputStream(self.open(), self.codec) if self.codec else self.open()


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

    def entries(self) -> list[Entry]:
        """What lies right below the root, in the order of the names.

        Raises:
            FileNotFoundError: If there is no such folder.
            OSError: If it cannot be listed as it is.
            StorageError: If the storage fails.
        """
        filesystem, path = _filesystem(self.root)
        return _entries(filesystem, FileSelector(path), unreadable_name=repr)

    def batch_entries(self, day: date) -> list[Entry]:
        """All that lies below the folder of a batch, sub-folders and hidden files included, in the order of the paths.

        Raises:
            FileNotFoundError: If there is no such folder.
            OSError: If it cannot be listed as it is.
            StorageError: If the storage fails.
        """
        filesystem, path = _filesystem(self.batch_folder(day))
        return _entries(filesystem, FileSelector(path, recursive=True), unreadable_name=_refuse)

    def batch_files(self, day: date) -> list[BatchFile]:
        """The data files of a batch, in the order of their paths.

        Files in sub-folders count, and so do files without a byte; hidden ones do not (see `Entry.is_hidden`).

        Raises:
            FileNotFoundError: If there is no such folder.
            OSError: If it cannot be listed as it is.
            StorageError: If the storage fails.
        """
        folder = self.batch_folder(day)
        filesystem, path = _filesystem(folder)
        return [
            BatchFile(f"{folder}/{entry.path}", entry.size, filesystem, f"{path}/{entry.path}")
            for entry in self.batch_entries(day)
            if entry.is_data_file
        ]


def place_of(uri: str) -> str:
    """The place that delta-rs or Spark name by a URI of their own, where `%20` stands for a blank."""
    return _canonical(uri if uri.startswith("file:") else unquote(uri))


def read_text(place: str) -> str:
    """The content of a file.

    Raises:
        FileNotFoundError: If there is none.
        StorageError: If the storage fails.
    """
    filesystem, path = _filesystem(_canonical(place))
    with _storage_errors(), filesystem.open_input_file(path) as file:
        return bytes(file.read()).decode()


class _StoredBytes(io.RawIOBase):
    """A file as its storage gives it.

    Whoever parses it has an `OSError` for bytes that make no sense, too. Those of the storage are named here, so that
    the two can be told apart.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def readinto(self, buffer: Any, /) -> int:
        with _storage_errors():
            read: int = self._file.readinto(buffer)
            return read

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Tells a storage that fails from one where there is nothing that can be read.

    Raises:
        StorageError: For the first; for the other the error as it is, or what the answer of an object store comes to.
    """
    try:
        yield
    except OSError as error:
        answer = next((number for said, number in _ANSWERS.items() if said in str(error)), None)
        if answer is not None:
            raise OSError(answer, str(error)) from error
        if error.errno in _NOT_TO_BE_READ:
            raise
        raise StorageError(str(error)) from error


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
    scheme, path_of_uri = place.split("://", 1)
    filesystem, path = FileSystem.from_uri(f"{scheme.replace('s3a', 's3')}://{quote(path_of_uri, safe=_LEGAL)}")
    return filesystem, path


def _entries(filesystem: FileSystem, where: FileSelector, unreadable_name: Callable[[bytes], str]) -> list[Entry]:
    def entry(info: FileInfo) -> Entry:
        try:
            path = info.path.removeprefix(where.base_dir).removeprefix("/")
        except UnicodeDecodeError as error:
            path = unreadable_name(error.object)
        is_file = info.type == FileType.File
        return Entry(path, is_file, info.size if is_file else 0, info.mtime_ns)

    with _storage_errors():
        listed = filesystem.get_file_info(where)
    return sorted(map(entry, listed), key=lambda entry: entry.path)


def _refuse(name: bytes) -> NoReturn:
    raise OSError(f"{name!r} is not UTF-8, so it cannot be read; give the file another name")
