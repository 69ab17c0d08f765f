"""What lies below a folder, on this machine or in an object store: files and folders, and which of them hold data."""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyarrow.fs import FileInfo, FileSelector, FileType

from sessions_dagster.storage.filesystem import filesystem_of, is_local, storage_errors

HIDING: Final = ("_", ".")
"""What the names of files and folders begin with that are no data."""

_UNFINISHED: Final = (".tmp", ".crc")
"""The ends of the names of files that are not complete yet, and of checksums."""

_OF_THE_DESKTOP: Final = frozenset({"thumbs.db", "desktop.ini"})

_LEADS_NOWHERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

_FOLDER_MARK: Final = "_$folder$"
"""The end of the names of empty files by which Hadoop's old file systems for object stores mark a folder."""


@dataclass(frozen=True)
class Entry:
    """A file or a folder, as a listing shows it.

    Attributes:
        path: Its path below the folder that was listed.
        is_file: False for folders, and for links that are not followed.
        size: The bytes of a file; 0 for folders.
        modified_ns: When it was last modified, in nanoseconds since 1970 (UTC). None if the file system does not say:
            object stores know no time of a folder.
        leads_to: Where a link leads that is not followed, because that is outside of the root or not there; None for
            all else.
    """

    path: str
    is_file: bool
    size: int
    modified_ns: int | None
    leads_to: str | None = None

    @property
    def is_hidden(self) -> bool:
        """Whether its name, or that of a folder on the way to it, starts with `_` or `.`.

        By Spark's convention these are marks and unfinished work, such as `_SUCCESS`.
        """
        return any(name.startswith(HIDING) for name in self.path.split("/"))

    @property
    def is_data_file(self) -> bool:
        """Whether it is among the data files of a batch."""
        return self.is_file and not self.is_hidden and not self._is_by_the_way

    @property
    def _is_by_the_way(self) -> bool:
        """Whether its name says that it is no data, but what tools leave beside data."""
        name = self.path.rpartition("/")[2].casefold()
        is_mark = name.endswith(_FOLDER_MARK) and self.size == 0
        return is_mark or name.endswith(_UNFINISHED) or name in _OF_THE_DESKTOP


def list_entries(
    location: str, *, unreadable_name: Callable[[bytes], str], links_within: str, recursive: bool = False
) -> list[Entry]:
    """What lies below a folder, in the order of the paths.

    Links of a local folder are followed within a root only, and each file is listed once: under its own path if that is
    listed and not hidden, and otherwise under that of the first link to it. Links that lead to what is listed anyway,
    or to a folder above the one that is listed, are left out.

    Args:
        location: The folder, in the spelling of `filesystem`.
        unreadable_name: What to do with a name that is not UTF-8: return another one, or raise.
        links_within: The root, in the spelling of `filesystem`.
        recursive: Also what lies below its sub-folders.

    Raises:
        FileNotFoundError: If there is no such folder.
        OSError: If it cannot be listed as it is.
        StorageError: If the storage fails.
    """
    if is_local(location):
        entries = _LocalListing(location, unreadable_name, links_within, recursive).entries()
    else:
        entries = _stored_entries(location, recursive=recursive)
    return sorted(entries, key=lambda each: each.path)


def _stored_entries(location: str, *, recursive: bool) -> list[Entry]:
    filesystem, path = filesystem_of(location)

    def entry(info: FileInfo) -> Entry:
        is_file = info.type == FileType.File
        name = info.path.removeprefix(path).removeprefix("/")
        return Entry(name, is_file, info.size if is_file else 0, info.mtime_ns)

    # Of the folders of Google's store, pyarrow lists those only that have an object of their own.
    is_folded = not recursive and location.startswith("gs://")
    with storage_errors(path):
        listed = filesystem.get_file_info(FileSelector(path, recursive=recursive or is_folded))
    entries = [entry(info) for info in listed]
    return _folded(entries) if is_folded else entries


def _folded(entries: Sequence[Entry]) -> list[Entry]:
    """What is right in a folder, of all that is in it and below it."""
    folders = {each.path.partition("/")[0] for each in entries if "/" in each.path or not each.is_file}
    files = [each for each in entries if "/" not in each.path and each.is_file]
    return [*files, *(Entry(name, False, 0, None) for name in folders)]


class _LocalListing:
    """A listing of a local folder while it is made.

    What is there itself comes first, and then what links lead to. Otherwise the order of the names would decide under
    which path a file is listed.
    """

    def __init__(
        self, folder: str, unreadable_name: Callable[[bytes], str], links_within: str, recursive: bool
    ) -> None:
        self._folder = folder
        self._unreadable_name = unreadable_name
        self._root = os.path.realpath(links_within).rstrip("/")
        self._recursive = recursive
        self._entries: list[Entry] = []
        self._listed: set[str] = set()
        """The real paths of the entries that are not hidden."""
        self._links: list[tuple[str, str]] = []
        """The links that are still to be followed: their paths below the folder, and on this machine."""

    def entries(self) -> list[Entry]:
        """All entries, in no particular order."""
        real = os.path.realpath(self._folder)
        if self._recursive and not real.startswith(f"{self._root}/"):
            raise OSError(f"{self._folder} is a link to {real}, and links are followed within {self._root} only")
        self._list_folder("", real)
        while self._links:
            self._follow(*self._links.pop(0))
        return self._entries

    def _list_folder(self, path: str, real: str) -> None:
        """List what is in a folder and below it. Links are left for later.

        Args:
            path: Its path below the listed folder; empty for that folder itself.
            real: Its path on this machine, without links.
        """
        folders = [(path, real)]
        while folders:
            path, real = folders.pop()
            for child, status in _children(real):
                child_path = f"{path}/{self._name(child)}".removeprefix("/")
                if child.is_symlink():
                    self._links.append((child_path, child.path))
                elif self._list(child_path, child.path, status) and self._recursive:
                    folders.append((child_path, child.path))

    def _list(self, path: str, real: str, status: os.stat_result) -> bool:
        """List a file or a folder, unless it is listed. Returns whether it is a folder to be looked into."""
        is_file = stat.S_ISREG(status.st_mode)
        entry = Entry(path, is_file, status.st_size if is_file else 0, status.st_mtime_ns)
        # Without sub-folders each link is an entry of its own: it may be a batch under a second date.
        if self._recursive and not entry.is_hidden:
            if real in self._listed:
                return False
            self._listed.add(real)
        self._entries.append(entry)
        return stat.S_ISDIR(status.st_mode)

    def _follow(self, path: str, link: str) -> None:
        """List what a link leads to."""
        real = os.path.realpath(link)
        unfollowed = Entry(path, is_file=False, size=0, modified_ns=None, leads_to=real)
        if unfollowed.is_hidden:
            return
        try:
            with storage_errors():
                status = Path(real).stat()
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise
            self._entries.append(unfollowed)
            return
        if not f"{real}/".startswith(f"{self._root}/"):
            self._entries.append(unfollowed)
            return
        leads_up = self._recursive and f"{os.path.realpath(self._folder)}/".startswith(f"{real}/")
        if not leads_up and self._list(path, real, status) and self._recursive:
            self._list_folder(path, real)

    def _name(self, child: os.DirEntry[str]) -> str:
        try:
            child.name.encode()
        except UnicodeEncodeError:
            return self._unreadable_name(os.fsencode(child.name))
        return child.name


def _children(folder: str) -> list[tuple[os.DirEntry[str], os.stat_result]]:
    """What is in a folder, links as such."""
    with storage_errors(), os.scandir(folder) as children:
        return [(child, child.stat(follow_symlinks=False)) for child in children]
