"""The columns of a Parquet file and their types, as its footer describes them.

Here belongs the format itself (https://parquet.apache.org/docs/file-format/), and nothing of Spark.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import islice
from typing import Any, Final


class Physical(IntEnum):
    """How values are stored."""

    BOOLEAN = 0
    INT32 = 1
    INT64 = 2
    INT96 = 3
    FLOAT = 4
    DOUBLE = 5
    BYTE_ARRAY = 6
    FIXED_LEN_BYTE_ARRAY = 7


class Meaning(StrEnum):
    """What stored values stand for, if not for themselves."""

    ITSELF = ""
    STRING = "STRING"
    DECIMAL = "DECIMAL"
    DATE = "DATE"
    TIME_MILLIS = "TIME in milliseconds"
    TIME_MICROS = "TIME in microseconds"
    TIME_NANOS = "TIME in nanoseconds"
    TIMESTAMP_MILLIS = "TIMESTAMP in milliseconds"
    TIMESTAMP_MICROS = "TIMESTAMP in microseconds"
    TIMESTAMP_NANOS = "TIMESTAMP in nanoseconds"
    INT_8 = "INT(8)"
    INT_16 = "INT(16)"
    UINT_8 = "UINT(8)"
    UINT_16 = "UINT(16)"
    UINT_32 = "UINT(32)"
    UINT_64 = "UINT(64)"
    NOTHING = "NULL"
    UUID = "UUID"
    FLOAT16 = "FLOAT16"
    INTERVAL = "INTERVAL"
    OTHER = "OTHER"


@dataclass(frozen=True)
class Leaf:
    """A column of single values.

    Attributes:
        physical: How they are stored.
        meaning: What they stand for.
        length: The bytes of each value of a `FIXED_LEN_BYTE_ARRAY`; otherwise 0.
        precision: Of decimals.
        scale: Of decimals.
    """

    physical: Physical
    meaning: Meaning = Meaning.ITSELF
    length: int = 0
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        stored = f"{self.physical.name}({self.length})" if self.length else self.physical.name
        if self.meaning is Meaning.DECIMAL:
            return f"DECIMAL({self.precision}, {self.scale})"
        if self.meaning is Meaning.STRING and self.length:
            return f"{stored} with text"
        return stored if self.meaning in (Meaning.ITSELF, Meaning.OTHER) else self.meaning


@dataclass(frozen=True)
class ListOf:
    """A list of values of one type."""

    element: "ParquetType"


@dataclass(frozen=True)
class MapOf:
    """A map."""

    key: "ParquetType"
    value: "ParquetType"


@dataclass(frozen=True)
class StructOf:
    """A structure of named fields."""

    fields: "tuple[tuple[str, ParquetType], ...]"


@dataclass(frozen=True)
class Variant:
    """A value of any type, in a binary form that only `VARIANT` has."""


ParquetType = Leaf | ListOf | MapOf | StructOf | Variant


@dataclass(frozen=True)
class DescribedColumn:
    """A column at the top of a file.

    Attributes:
        name: Its name; others may have the same.
        type: The type of its values; None if it does not follow the format, or has more than 100 levels.
        leaves: The number of columns that it is stored in.
    """

    name: str
    type: ParquetType | None
    leaves: int


_DEEPEST: Final = 100
"""So many levels a type has at most that is looked at: the code here and the plans of Spark recurse with them."""

_REPEATED: Final = 2
_UTF8_CONVERTED, _MAP_CONVERTED, _MAP_KEY_VALUE, _LIST_CONVERTED, _DECIMAL_CONVERTED = 0, 1, 2, 3, 5
_CONVERTED: Final = {
    _UTF8_CONVERTED: Meaning.STRING,
    4: Meaning.STRING,  # an ENUM
    _DECIMAL_CONVERTED: Meaning.DECIMAL,
    6: Meaning.DATE,
    7: Meaning.TIME_MILLIS,
    8: Meaning.TIME_MICROS,
    9: Meaning.TIMESTAMP_MILLIS,
    10: Meaning.TIMESTAMP_MICROS,
    11: Meaning.UINT_8,
    12: Meaning.UINT_16,
    13: Meaning.UINT_32,
    14: Meaning.UINT_64,
    15: Meaning.INT_8,
    16: Meaning.INT_16,
    17: Meaning.ITSELF,
    18: Meaning.ITSELF,
    19: Meaning.STRING,  # JSON
    21: Meaning.INTERVAL,
}
_MAP_LOGICAL, _LIST_LOGICAL, _DECIMAL_LOGICAL, _TIME_LOGICAL, _TIMESTAMP_LOGICAL, _INTEGER_LOGICAL = 2, 3, 5, 7, 8, 10
_VARIANT_LOGICAL: Final = 16
_LOGICAL: Final = {
    1: Meaning.STRING,
    4: Meaning.STRING,
    _DECIMAL_LOGICAL: Meaning.DECIMAL,
    6: Meaning.DATE,
    11: Meaning.NOTHING,
    12: Meaning.STRING,
    14: Meaning.UUID,
    15: Meaning.FLOAT16,
}
_TIMES: Final = {1: Meaning.TIME_MILLIS, 2: Meaning.TIME_MICROS, 3: Meaning.TIME_NANOS}
_TIMESTAMPS: Final = {1: Meaning.TIMESTAMP_MILLIS, 2: Meaning.TIMESTAMP_MICROS, 3: Meaning.TIMESTAMP_NANOS}
_INTEGERS: Final = {
    (8, True): Meaning.INT_8,
    (16, True): Meaning.INT_16,
    (32, True): Meaning.ITSELF,
    (64, True): Meaning.ITSELF,
    (8, False): Meaning.UINT_8,
    (16, False): Meaning.UINT_16,
    (32, False): Meaning.UINT_32,
    (64, False): Meaning.UINT_64,
}

_Element = Mapping[int, Any]
"""A `SchemaElement` of the format, by the numbers of its fields."""


@dataclass(frozen=True)
class _Node:
    """A node of the tree of columns."""

    element: _Element
    children: "list[_Node]"

    @property
    def name(self) -> str:
        name: bytes = self.element[4]
        return name.decode()

    @property
    def is_repeated(self) -> bool:
        return bool(self.element.get(3) == _REPEATED)

    @property
    def leaves(self) -> int:
        return sum(5 not in node.element for level in self._levels() for node in level)

    @property
    def is_too_deep(self) -> bool:
        return next(islice(self._levels(), _DEEPEST, None), None) is not None

    def _levels(self) -> "Iterator[list[_Node]]":
        """This node, then its children, then theirs, and so on."""
        level = [self]
        while level:
            yield level
            level = [child for node in level for child in node.children]


def described_columns(elements: list[_Element]) -> list[DescribedColumn]:
    """The columns of a file, in order.

    Args:
        elements: The `SchemaElement` of each node of the tree of columns, by the numbers of their fields.

    Raises:
        LookupError: If an element lacks a field.
        ValueError: If the tree is not complete, or a name is not UTF-8 (`UnicodeDecodeError`).
    """
    return [
        DescribedColumn(node.name, None if node.is_too_deep else _type_of(node), node.leaves)
        for node in _tree(iter(elements)).children
    ]


def name_without_one_meaning(elements: list[_Element]) -> str | None:
    """A name that columns beside each other share although their types differ, one of them nested or a half float.

    Then nobody can tell what is meant by the path of what is nested in it, or whose statistics are those of half
    floats, and Spark refuses the file.

    Args:
        elements: As for `described_columns`.

    Returns:
        The name; None if there is none.
    """
    root = _tree(iter(elements))
    return _shared_name(_Node(root.element, [node for node in root.children if not node.is_too_deep]))


def _is_half_float(type_: ParquetType | None) -> bool:
    return isinstance(type_, Leaf) and type_.meaning is Meaning.FLOAT16


def name_with_type_not_in(known: Collection[int], elements: list[_Element]) -> str | None:
    """The name of a column, or of what is nested in it, with a logical type that is not one of some.

    Args:
        known: The numbers of the logical types.
        elements: As for `described_columns`.

    Returns:
        The name; None if there is none.
    """
    named = (element[4].decode() for element in elements if not set(known).issuperset(element.get(10, {})))
    return next(named, None)


def _shared_name(node: _Node) -> str | None:
    by_name: dict[str, _Node] = {}
    for child in node.children:
        other = by_name.setdefault(child.name, child)
        types = _type_of(other), _type_of(child)
        if types[0] != types[1] and (other.children or child.children or any(map(_is_half_float, types))):
            return child.name
    return next(filter(None, map(_shared_name, node.children)), None)


def _tree(elements: Iterator[_Element]) -> _Node:
    root = _next_node(elements)
    unfinished = [root]
    while unfinished:
        node = unfinished[-1]
        if len(node.children) < node.element.get(5, 0):
            node.children.append(_next_node(elements))
            unfinished.append(node.children[-1])
        else:
            unfinished.pop()
    return root


def _next_node(elements: Iterator[_Element]) -> _Node:
    element = next(elements, None)
    if element is None:
        raise ValueError("its columns are not complete")
    return _Node(element, [])


def _type_of(node: _Node) -> ParquetType | None:
    """The type of a node, None if it does not follow the format."""
    itself = _type_of_one(node)
    return ListOf(itself) if node.is_repeated and itself is not None else itself


def _type_of_one(node: _Node) -> ParquetType | None:
    element = node.element
    if 5 not in element:
        return _leaf(element)
    logical, converted = element.get(10, {}), element.get(6)
    if _VARIANT_LOGICAL in logical:
        return Variant()
    if _LIST_LOGICAL in logical or converted == _LIST_CONVERTED:
        return _list(node)
    if _MAP_LOGICAL in logical or converted in (_MAP_CONVERTED, _MAP_KEY_VALUE):
        return _map(node)
    fields = [(child.name, _type_of(child)) for child in node.children]
    known = tuple((name, type_) for name, type_ in fields if type_ is not None)
    # Spark looks fields up by name, and there is no structure without fields.
    is_sound = len(known) == len(fields) == len({name for name, _ in fields}) > 0
    return StructOf(known) if is_sound else None


def _list(node: _Node) -> ParquetType | None:
    if len(node.children) != 1 or not node.children[0].is_repeated:
        return None
    (repeated,) = node.children
    # Old writers leave out the level between a list and its elements; these are the format's rules to recognize it.
    is_element = (
        len(repeated.children) != 1
        or repeated.children[0].is_repeated
        or repeated.name in ("array", f"{node.name}_tuple")
    )
    element = _type_of_one(repeated) if is_element else _type_of(repeated.children[0])
    return None if element is None else ListOf(element)


def _map(node: _Node) -> ParquetType | None:
    if len(node.children) != 1 or not node.children[0].is_repeated or len(node.children[0].children) != 2:
        return None
    key, value = map(_type_of, node.children[0].children)
    return None if key is None or value is None else MapOf(key, value)


def _leaf(element: _Element) -> Leaf:
    physical = Physical(element[1])
    logical: Mapping[int, Any] = element.get(10, {})
    length = element.get(2, 0) if physical is Physical.FIXED_LEN_BYTE_ARRAY else 0
    meaning = _meaning(logical, element.get(6))
    if meaning is Meaning.DECIMAL:
        said = logical.get(_DECIMAL_LOGICAL, {})
        precision, scale = said.get(2, element.get(8, 0)), said.get(1, element.get(7, 0))
        return Leaf(physical, meaning, length, precision, scale)
    return Leaf(physical, meaning, length)


def _meaning(logical: Mapping[int, Any], converted: int | None) -> Meaning:
    for kind, details in logical.items():
        if kind in (_TIME_LOGICAL, _TIMESTAMP_LOGICAL):
            units = _TIMES if kind == _TIME_LOGICAL else _TIMESTAMPS
            return next((units[unit] for unit in details.get(2, {}) if unit in units), Meaning.OTHER)
        if kind == _INTEGER_LOGICAL:
            return _INTEGERS.get((details.get(1), details.get(2)), Meaning.OTHER)
        return _LOGICAL.get(kind, Meaning.OTHER)
    return Meaning.ITSELF if converted is None else _CONVERTED.get(converted, Meaning.OTHER)
