"""A data file of a batch: how it is opened, and which compression its name indicates."""

import bz2
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa
from pyarrow.fs import FileSystem

from sessions_dagster.storage.filesystem import open_file

_CODECS: Final = {".bz2": "bz2", ".gz": "gzip", ".zst": "zstd"}

COMPRESSIONS: Final = tuple(_CODECS)
"""The ends of the names of compressed files that both pyarrow and Spark read, and in the same way."""

_OTHER_COMPRESSIONS: Final = frozenset(
    {".7z", ".br", ".bz", ".deflate", ".lz4", ".lzma", ".lzo", ".snappy", ".xz", ".z", ".zip", ".zstd"}
)
"""Spark reads some of these in formats of Hadoop's own, and finds nothing in files of the usual tools."""


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
        """The end of its name, with the dot, as it is spelled: `.gz` means something to Spark, `.GZ` does not."""
        return PurePosixPath(self._path).suffix

    @property
    def codec(self) -> str | None:
        """Pyarrow's name of the compression that the file's name indicates; None for an uncompressed file."""
        return _CODECS.get(self.suffix)

    @property
    def is_compressed_otherwise(self) -> bool:
        """Whether its name indicates a compression that is not one of the `COMPRESSIONS`."""
        return self.suffix not in _CODECS and self.suffix.casefold() in {*_CODECS, *_OTHER_COMPRESSIONS}

    def open(self) -> Any:
        """The file's bytes, as a seekable `pyarrow.NativeFile`.

        Raises:
            OSError: If there is no such file, or none that may be read.
            StorageError: If the storage fails, now or when the file is read.
        """
        return open_file(self._filesystem, self._path)

    def open_stream(self) -> Any:
        """The file's content from its start, as a binary stream, decompressed as its name indicates (`.gz`).

        Raises:
            OSError: If there is no such file, or none that may be read.
            EOFError: While it is read, if it ends too early.
            StorageError: If the storage fails, now or when the file is read.
        """
        if self.codec == "bz2":
            # pyarrow fails if such a file has several parts, as tools that compress on all cores write it.
            return bz2.BZ2File(self.open())
        return pa.CompressedInputStream(self.open(), self.codec) if self.codec else self.open()
