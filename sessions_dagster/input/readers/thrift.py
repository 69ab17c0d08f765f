"""Thrift's compact protocol, in which the footers and page headers of Parquet are written."""

import struct
from typing import Any, Final

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_LONG_LIST: Final = 15
_LONGEST_NUMBER: Final = 10


class CompactReader:
    """Reads values one after the other.

    Attributes:
        position: The byte at which the next value begins.
    """

    def __init__(self, content: bytes, position: int = 0) -> None:
        self.position = position
        self._content = content
        self._readers = {
            **dict.fromkeys((_TRUE, _FALSE), lambda: self._byte() == _TRUE),
            _BYTE: self._byte,
            **dict.fromkeys((_I16, _I32, _I64), self._integer),
            _DOUBLE: lambda: struct.unpack("<d", self._bytes(8))[0],
            _BINARY: lambda: self._bytes(self._unsigned()),
            **dict.fromkeys((_LIST, _SET), self._list),
            _MAP: self._map,
            _STRUCT: self.read_struct,
        }

    def read_struct(self) -> dict[int, Any]:
        """The fields of a structure, by their numbers; what is nested in the same way.

        Raises:
            LookupError: If the content ends too early, or has a value of an unknown kind.
            ValueError: If a number does not end.
        """
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._integer()
            kind = header & 0x0F
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._readers[kind]()
        return fields

    def _list(self) -> list[Any]:
        header = self._byte()
        size = self._unsigned() if header >> 4 == _LONG_LIST else header >> 4
        # Some writers give an empty list no kind.
        return [self._readers[header & 0x0F]() for _ in range(size)]

    def _map(self) -> list[tuple[Any, Any]]:
        size = self._unsigned()
        kinds = self._byte() if size else 0
        return [(self._readers[kinds >> 4](), self._readers[kinds & 0x0F]()) for _ in range(size)]

    def _byte(self) -> int:
        byte = self._content[self.position]
        self.position += 1
        return byte

    def _bytes(self, length: int) -> bytes:
        start, self.position = self.position, self.position + length
        if self.position > len(self._content):
            raise IndexError("the content ends too early")
        return self._content[start : self.position]

    def _unsigned(self) -> int:
        result = 0
        for place in range(_LONGEST_NUMBER):
            byte = self._byte()
            result |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return result
        raise ValueError("a number does not end")

    def _integer(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)
