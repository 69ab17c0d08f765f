"""Paths, URIs and file systems: the one module that knows how a location is spelled and how its files are reached.

A location is an absolute path for a local folder and a URI for anything else, spelled as Spark expects it: `s3a://`,
and without escapes, so a blank is written as a blank. delta-rs understands that as well. Only pyarrow, which lists and
opens input files, expects `%20` for a blank in a URI. `location_of` turns other spellings into this one.
"""

import errno
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem

from sessions_dagster import s3
from sessions_dagster.errors import SettingsError, StorageError
from sessions_dagster.redaction import redacted

SCHEMES: Final = ("s3a", "s3", "gs", "abfss", "abfs", "hdfs", "viewfs")
"""The schemes of URIs that Spark (with its connectors), delta-rs and pyarrow may all understand."""

PATHS_ARE_PATTERNS: Final = "__globPaths__"
"""The option of Spark's readers by which a path is one as it is (`false`), whatever characters are in it."""

PLACES: Final = (
    f"a folder, or a URI that begins with file:///, {', '.join(f'{scheme}://' for scheme in SCHEMES)}, and not only /; "
    "a URI of a store has no key, query or fragment, because credentials belong in the environment"
)
"""What a location may be, for messages."""

TABLE_PATHS: Final = (
    "with a path in which there is no backslash and no % before two hexadecimal digits, and in a URI none of []^|?#, "
    "because delta-rs, which reads the logs of the tables, cannot open such paths"
)
"""What is also true of a location that tables can be in, for messages."""

# delta-rs decodes such a path once more than it encodes it.
_UNUSABLE: Final = re.compile(r"\\|%[0-9A-Fa-f]{2}")
_UNUSABLE_IN_URIS: Final = re.compile(rf"{_UNUSABLE.pattern}|[\[\]^|?#]")

_FILE_URI: Final = re.compile(r"file:(?://)?(/(?!/)[^\x00-\x1f]*)")
_NAME_IN_URI: Final = r"[^/\s:@?#]+"
_PATH_IN_URI: Final = r"[^\x00-\x1f]*"
_URI: Final = re.compile(
    # A key before a bucket, and a query or a fragment behind the path, would be in every message, and may be a secret.
    # In the name of a folder on the way, "#" is a character like all others.
    r"(?!.*\?|.*#[^/]*$)"
    rf"(?:(?:(?:s3a|s3|gs)://{_NAME_IN_URI}|abfss?://(?:{_NAME_IN_URI}@)?{_NAME_IN_URI}"
    rf"|(?:hdfs|viewfs)://(?:{_NAME_IN_URI}|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?)(?:/{_PATH_IN_URI})?"
    rf"|(?:hdfs|viewfs):///[^/\x00-\x1f]{_PATH_IN_URI})",
)

# Schemes that others know. Without their slashes, too, nobody means a local folder.
_OTHER_SCHEMES: Final = (
    *("adl", "alluxio", "az", "azure", "cos", "cosn", "dbfs", "ftp", "gcs", "har", "http", "https", "jdbc", "o3fs"),
    *("obs", "ofs", "oss", "s3n", "sftp", "swebhdfs", "swift", "tos", "wasb", "wasbs", "webhdfs"),
)

# URIs of other schemes, paths of Windows, and what a shell would have replaced or taken away.
_NO_LOCAL_FOLDER: Final = re.compile(
    rf"[^/]*:/.*|(?:file|{'|'.join((*SCHEMES, *_OTHER_SCHEMES))}):.*|[a-z]:\\.*|\\\\.*|[~$\s].*|'.*'|\".*\""
    r"|.*[\x00-\x1f].*",
    re.IGNORECASE | re.DOTALL,
)

_LEGAL_IN_URI: Final = "/:@=+,&;!$'()*"
"""The characters that are not escaped in the path of a URI, beside letters, digits and a few marks."""

_UNFINISHED: Final = ".tmp"

# pyarrow and delta-rs have no errors of their own for these answers of an object store: only the text says it.
_ANSWERS: Final = {
    "AWS Error NO_SUCH_BUCKET": errno.ENOENT,
    "<Code>NoSuchBucket</Code>": errno.ENOENT,
    "AWS Error ACCESS_DENIED": errno.EACCES,
    "lacked the necessary privileges": errno.EACCES,
    "google::cloud::Status(NOT_FOUND": errno.ENOENT,
    "google::cloud::Status(PERMISSION_DENIED": errno.EACCES,
}

_NOT_READABLE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
)


def canonical(location: str) -> str:
    """A location in the spelling of this module.

    Args:
        location: A local folder (relative to the working directory, absolute, or `file://`) or a URI.

    Raises:
        SettingsError: If it is neither. A text that looks like a URI, or that only a shell or another system
            understands, is never taken for the name of a local folder.
    """
    of_file = _FILE_URI.fullmatch(location)
    if of_file is not None:
        # Not taken apart as a URI: in the name of a folder, "#" and "?" are characters like all others.
        return _folder(unquote(of_file[1]))
    if _URI.fullmatch(location):
        return _stored(location)
    if not location.strip() or _NO_LOCAL_FOLDER.fullmatch(location):
        raise SettingsError(f"{redacted(location)!r} is no place: it must be {PLACES}.")
    return _folder(location)


def table_root(location: str) -> str:
    """A location that tables can be in, in the spelling of this module.

    Raises:
        SettingsError: If it is no location, or its path has a character that delta-rs cannot cope with.
    """
    # Before it is refused for another reason: the message is about what delta-rs cannot open.
    is_in_store = location.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))
    refused = (_UNUSABLE_IN_URIS if is_in_store else _UNUSABLE).search(location if is_in_store else canonical(location))
    if refused is not None:
        raise SettingsError(
            f"Tables cannot be in {redacted(location)}: delta-rs, which reads their logs, cannot open a path that "
            f"contains {refused[0]}. Choose a warehouse root with another name."
        )
    return canonical(location)


def commit_location(table: str, version: int) -> str:
    """Where the commit is by which a table, at a location, came to a version."""
    return f"{table}/_delta_log/{version:020}.json"


def is_within(location: str, folder: str) -> bool:
    """Whether a location is a folder or lies below it, both in the spelling of this module."""
    return f"{location}/".startswith(f"{folder}/")


def location_of(uri: str) -> str:
    """The location of a URI as delta-rs and Spark write it, in which `%20` stands for a blank."""
    location = location_with_links(uri)
    return str(Path(location).resolve()) if uri.startswith("file:") else location


def location_with_links(uri: str) -> str:
    """The location of a URI, as `location_of` gives it, except that links on the way to a local file are kept."""
    if uri.startswith("file:"):
        return unquote(re.sub("^file:/*", "/", uri))
    return _stored(unquote(uri))


def _folder(path: str) -> str:
    folder = Path(path).resolve()
    if folder == folder.parent:
        # What is right below it would begin with two slashes, and Spark takes the name after them for that of a host.
        raise SettingsError(f"{path!r} is no place: it must be {PLACES}.")
    return str(folder)


def _stored(uri: str) -> str:
    return re.sub("^s3://", "s3a://", uri).rstrip("/")


def is_local(location: str) -> bool:
    """Whether a location is a path of this machine."""
    return "://" not in location


def filesystem_of(location: str) -> tuple[FileSystem, str]:
    """The file system of a location for pyarrow, and the path of the location in it."""
    if is_local(location):
        return LocalFileSystem(), location
    scheme, path_of_uri = location.split("://", 1)
    if s3.is_on_s3(location):
        return s3.pyarrow_filesystem(path_of_uri.partition("/")[0]), path_of_uri
    filesystem, path = FileSystem.from_uri(f"{scheme}://{quote(path_of_uri, safe=_LEGAL_IN_URI)}")
    return filesystem, path


def delta_rs_options(location: str) -> dict[str, str] | None:
    """The storage options with which delta-rs opens a table at a location; None if it needs none."""
    return s3.delta_rs_options() if s3.is_on_s3(location) else None


def read_text(location: str) -> str:
    """The content of a file.

    Raises:
        FileNotFoundError: If there is none.
        StorageError: If the storage fails.
    """
    filesystem, path = filesystem_of(canonical(location))
    with storage_errors(), filesystem.open_input_file(path) as file:
        return bytes(file.read()).decode()


def is_file(location: str) -> bool:
    """Whether there is a file, which an object store says in one answer.

    Raises:
        OSError: If it may not be looked at.
        StorageError: If the storage fails.
    """
    filesystem, path = filesystem_of(location)
    try:
        with storage_errors(), filesystem.open_input_file(path):
            return True
    except FileNotFoundError:
        return False


def names_in(folder: str) -> set[str]:
    """The names in a folder; none if there is no such folder.

    Raises:
        OSError: If it may not be looked at.
        StorageError: If the storage fails.
    """
    filesystem, path = filesystem_of(folder)
    with storage_errors():
        return {found.base_name for found in filesystem.get_file_info(FileSelector(path, allow_not_found=True))}


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
        self._size: int = file.size()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        # Google's store would be asked for what is behind the end, and fail.
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        is_at_end = 0 < self._size <= self._position
        with storage_errors():
            read = b"" if is_at_end else self._file.read_at(len(buffer), self._position)
        buffer[: len(read)] = read
        self._position += len(read)
        return len(read)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def storage_errors(listed: str | None = None) -> Iterator[None]:
    """Distinguishes a storage that fails from one in which something is missing or may not be read.

    Args:
        listed: The path of the folder that is listed, if one is. pyarrow says of one of Google's store that there is
            no such folder, with the words that the system says, too, of a file of credentials.

    Raises:
        StorageError: If the storage fails. In the other case the error stays an `OSError`, with the number that the
            answer of an object store stands for.
    """
    try:
        yield
    except OSError as error:
        answers = _ANSWERS if listed is None else {**_ANSWERS, f"No such file or directory '{listed}'": errno.ENOENT}
        answer = next((number for text, number in answers.items() if text in str(error)), None)
        if answer is not None:
            raise OSError(answer, str(error)) from error
        if error.errno in _NOT_READABLE:
            raise
        raise StorageError(str(error)) from error
