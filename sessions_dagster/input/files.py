"""A data file of a batch: how it is opened, and which compression its name indicates."""

import bz2
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa
from pyarrow.fs import FileSystem

from sessions_dagster.spark.compat import HAS_TEXT_IN_ZSTANDARD
from sessions_dagster.storage.filesystem import open_file

_CODECS: Final = {".bz2": "bz2", ".gz": "gzip", **({".zst": "zstd"} if HAS_TEXT_IN_ZSTANDARD else {})}

COMPRESSIONS: Final = tuple(_CODECS)
"""The ends of the names of compressed files that both pyarrow and Spark read, and in the same way."""

_OTHER_COMPRESSIONS: Final = frozenset(
    {".7z", ".br", ".bz", ".bzip2", ".deflate", ".gzip", ".lz", ".lz4", ".lzma", ".lzo", ".snappy", ".sz", ".xz", ".z"}
    | {".zip", ".zst", ".zstd", ".rar", ".tar", ".tbz2", ".tgz", ".txz"}
)
"""Spark reads some of these in formats of Hadoop's own, and finds nothing in files of the usual tools."""

_SIGNATURES: Final = {
    ".gz": rb"\x1f\x8b",
    ".bz2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    ".zst": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    ".lz4": rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18",
    ".snappy": rb"\xff\x06\x00\x00sNaPpY",
    ".xz": rb"\xfd7zXZ\x00",
    ".zip": rb"PK\x03\x04",
    ".z": rb"\x1f\x9d",
    ".7z": rb"7z\xbc\xaf\x27\x1c",
}
"""Patterns of what compressed content begins with. Text does not: all have bytes that are no text, or a long word."""

_SIGNATURE_BYTES: Final = 16

_BYTES_AT_ONCE: Final = 4 * 1024 * 1024

_COMPRESSED_BYTES_AT_ONCE: Final = 64 * 1024
"""Few, because what follows a stream is copied, and a file may have very many of them."""

_OF_PATTERNS: Final = re.compile(r"[\\{}\[\]*?]")


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
    def is_like_a_pattern(self) -> bool:
        """Whether Hadoop would take its path for a pattern."""
        return _OF_PATTERNS.search(self.uri) is not None

    @property
    def pattern(self) -> str | None:
        """A pattern for Spark that only this file matches; None if Hadoop can have none, because of a colon."""
        if self.is_like_a_pattern and ":" in self.uri.rpartition("://")[2]:
            return None
        return _OF_PATTERNS.sub(r"\\\g<0>", self.uri)

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

    def compression_found(self) -> str | None:
        """The compression that the first bytes of the file indicate, as the end of a name; None if they do not.

        Raises:
            OSError: If there is no such file, or none that may be read.
            StorageError: If the storage fails.
        """
        with self.open() as opened:
            start = opened.read(_SIGNATURE_BYTES)
        return next((end for end, signature in _SIGNATURES.items() if re.match(signature, start)), None)

    def decompress_to_the_end(self) -> None:
        """Find what Spark would pass over in silence, in a file of a compression in which it does so.

        That is whatever is between and behind the streams of bzip2 and no stream, and a frame of Zstandard that is cut
        off, if it has others before it.

        Raises:
            OSError: If there is no such file, none that may be read, or one that cannot be decompressed.
            EOFError: If it ends too early.
            StorageError: If the storage fails.
        """
        if self.suffix == ".zst":
            with self.open_stream() as opened:
                while opened.read(_BYTES_AT_ONCE):
                    pass
        if self.suffix == ".bz2":
            with self.open() as opened:
                _decompress_bzip2(opened)

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


def _decompress_bzip2(compressed: Any) -> None:
    # Python's own reader passes over what follows a stream and is none, as Spark does.
    data = compressed.read(_COMPRESSED_BYTES_AT_ONCE)
    while data:
        stream = bz2.BZ2Decompressor()
        while not stream.eof:
            if stream.needs_input and not data:
                raise EOFError("the last stream is cut off")
            stream.decompress(data, _BYTES_AT_ONCE)
            data = compressed.read(_COMPRESSED_BYTES_AT_ONCE) if stream.needs_input else b""
        data = stream.unused_data or compressed.read(_COMPRESSED_BYTES_AT_ONCE)
