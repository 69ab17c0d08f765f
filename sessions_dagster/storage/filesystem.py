"""Paths, URIs and file systems: the one module that knows how a location is spelled and how its files are reached.

A location is an absolute path for a local folder and a URI for anything else, spelled as Spark expects it: `s3a://`,
and without escapes, so a blank is written as a blank. delta-rs understands that as well. Only pyarrow, which lists and
opens input files, expects `s3://` and `%20` for a blank. `location_of` turns other spellings into this one.
"""

import errno
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from sessions_dagster.errors import StorageError

_LEGAL_IN_URI: Final = "/:@=+,&;!$'()*"
"""The characters that are not escaped in the path of a URI, beside letters, digits and a few marks."""

_UNFINISHED: Final = ".tmp"

# pyarrow has no errors of its own for these answers of an object store: only the text says what is wrong.
_ANSWERS: Final = {"AWS Error NO_SUCH_BUCKET": errno.ENOENT, "AWS Error ACCESS_DENIED": errno.EACCES}

_NOT_READABLE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
)


@dataclass(frozen=True)
class Entry:
    """A file or a folder, as a listing shows it.

    Attributes:
        path: Its path below the folder that was listed.
        is_file: False for folders.
        size: The bytes of a file; 0 for folders.
        modified_ns: When it was last modified, in nanoseconds since 1970 (UTC). None if the file system does not say:
            object stores know no time of a folder.
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


def canonical(location: str) -> str:
    """A location in the spelling of this module.

    Args:
        location: A local folder (relative to the working directory, absolute, or `file://`) or a URI.
    """
    if location.startswith("file:"):
        return str(Path(unquote(urlsplit(location).path)).resolve())
    if is_local(location):
        return str(Path(location).resolve())
    return re.sub("^s3://", "s3a://", location).rstrip("/")


def location_of(uri: str) -> str:
    """The location of a URI as delta-rs and Spark write it, in which `%20` stands for a blank."""
    return canonical(uri if uri.startswith("file:") else unquote(uri))


def is_local(location: str) -> bool:
    """Whether a location is a path of this machine."""
    return "://" not in location


def filesystem_of(location: str) -> tuple[FileSystem, str]:
    """The file system of a location for pyarrow, and the path of the location in it."""
    if is_local(location):
        return LocalFileSystem(), location
    scheme, path_of_uri = location.split("://", 1)
    filesystem, path = FileSystem.from_uri(f"{scheme.replace('s3a', 's3')}://{quote(path_of_uri, safe=_LEGAL_IN_URI)}")
    return filesystem, path


def list_entries(location: str, *, unreadable_name: Callable[[bytes], str], recursive: bool = False) -> list[Entry]:
    """What lies below a folder, in the order of the paths.

    Args:
        location: The folder, in the spelling of this module.
        unreadable_name: What to do with a name that is not UTF-8: return another one, or raise.
        recursive: Also what lies below its sub-folders.

    Raises:
        FileNotFoundError: If there is no such folder.
        OSError: If it cannot be listed as it is.
        StorageError: If the storage fails.
    """
    filesystem, path = filesystem_of(location)

    def entry(info: FileInfo) -> Entry:
        try:
            name = info.path.removeprefix(path).removeprefix("/")
        except UnicodeDecodeError as error:
            name = unreadable_name(error.object)
        is_file = info.type == FileType.File
        return Entry(name, is_file, info.size if is_file else 0, info.mtime_ns)

    with storage_errors():
        listed = filesystem.get_file_info(FileSelector(path, recursive=recursive))
    return sorted(map(entry, listed), key=lambda each: each.path)


def read_text(location: str) -> str:
    """The content of a file.

    Raises:
        FileNotFoundError: If there is none.
        StorageError: If the storage fails.
    """
    filesystem, path = filesystem_of(canonical(location))
    with storage_errors(), filesystem.open_input_file(path) as file:
        return bytes(file.read()).decode()


def write_text(location: str, text: str) -> None:
    """Create or replace a small file, and the folders on the way to it. Readers see the old content or the new one.

    Raises:
        OSError: If it may not be written.
        StorageError: If the storage fails.
    """
    filesystem, path = filesystem_of(canonical(location))
    # An object appears as a whole, and needs no folder. A local file is renamed as a whole.
    is_object = not is_local(location)
    written = path if is_object else f"{path}{_UNFINISHED}"
    with storage_errors():
        if not is_object:
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(written) as file:
            file.write(text.encode())
        if not is_object:
            filesystem.move(written, path)


def open_file(filesystem: FileSystem, path: str) -> Any:
    """The bytes of a file, as a seekable `pyarrow.NativeFile`.

    Raises:
        OSError: If there is no such file, or none that may be read.
        StorageError: If the storage fails, now or when the file is read.
    """
    with storage_errors():
        return pa.PythonFile(_StoredBytes(filesystem.open_input_file(path)), "r")


class _StoredBytes(io.RawIOBase):
    """A file as its storage gives it.

    A parser may raise an `OSError` as well, for bytes that make no sense. So failures of the storage are turned into
    `StorageError` here, to distinguish the two.
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
        with storage_errors():
            read: int = self._file.readinto(buffer)
            return read

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Distinguishes a storage that fails from one in which something is missing or may not be read.

    Raises:
        StorageError: If the storage fails. In the other case the error stays an `OSError`, with the number that the
            answer of an object store stands for.
    """
    try:
        yield
    except OSError as error:
        answer = next((number for text, number in _ANSWERS.items() if text in str(error)), None)
        if answer is not None:
            raise OSError(answer, str(error)) from error
        if error.errno in _NOT_READABLE:
            raise
        raise StorageError(str(error)) from error
