"""Which ports the processes of this machine listen at, as Linux says in /proc."""

import os
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, NamedTuple

_LISTENING: Final = "0A"


class Listener(NamedTuple):
    """A socket that waits for connections over the network."""

    address: IPv4Address | IPv6Address
    port: int
    program: str

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        mapped = getattr(self.address, "ipv4_mapped", None)
        return (mapped or self.address).is_loopback


def listeners(root: int) -> set[Listener]:
    """The sockets at which a process and all that it has started listen now."""
    addresses = dict(_addresses())
    found = set()
    for pid in [root, *_descendants(root)]:
        for inode in _sockets(pid) & addresses.keys():
            found.add(Listener(*addresses[inode], _program(pid)))
    return found


def _descendants(root: int) -> Iterator[int]:
    for thread in _listed(f"/proc/{root}/task"):
        with suppress(OSError):
            for child in map(int, Path(f"/proc/{root}/task/{thread}/children").read_text().split()):
                yield child
                yield from _descendants(child)


def _addresses() -> Iterator[tuple[str, tuple[IPv4Address | IPv6Address, int]]]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING:
                    address, port = columns[1].split(":")
                    yield columns[9], (_address(bytes.fromhex(address)), int(port, 16))


def _address(words: bytes) -> IPv4Address | IPv6Address:
    # Words of four bytes in the order of the machine, which is little-endian wherever these tests run.
    in_order = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
    return IPv4Address(in_order) if len(in_order) == 4 else IPv6Address(in_order)


def _sockets(pid: int) -> set[str]:
    found = set()
    for descriptor in _listed(f"/proc/{pid}/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115 (it is no path)
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    return found


def _program(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return ""


def _listed(folder: str) -> list[str]:
    try:
        return [path.name for path in Path(folder).iterdir()]
    except OSError:
        return []
