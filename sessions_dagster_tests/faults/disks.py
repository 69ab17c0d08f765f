"""Disks that are full: a small tmpfs that a worker mounts in a namespace of its own, as any user may."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from sessions_dagster_tests.faults.checker import Checker
from sessions_dagster_tests.faults.group import Worker, working
from sessions_dagster_tests.faults.program import Program
from sessions_dagster_tests.faults.states import look

_SIZE: Final = "64m"
_PAGE: Final = 4096
_MOST_PAGES_FREE: Final = 24
_BALLAST: Final = "ballast"


def in_own_mount(folder: Path) -> list[str]:
    """The words before a command that has a small disk of its own at a folder, which only it sees."""
    mount = f'mount -t tmpfs -o size={_SIZE} tmpfs "$0" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)]


def full_disk_of_tables(checker: Checker, folder: Path, program: Program, steps: int) -> None:
    """Fill the disk of the tables before each step, up to some pages, and run it again with room."""
    kind, world = "disk of the tables full", folder / "full"
    (world / "warehouse").mkdir(parents=True)
    with working(world, program.seed, 0, prefix=in_own_mount(world / "warehouse")) as worker:
        seen = _as_seen_by(worker, world / "warehouse")
        _fill_before_each(
            checker, kind, program, steps, _Disk(worker, seen, _MOST_PAGES_FREE, seen, f"{world}/warehouse)")
        )


def full_disk_of_spark(checker: Checker, folder: Path, program: Program, steps: int) -> None:
    """Fill the disk of Spark's own files, such as those of a shuffle, before each step."""
    kind, world, local = "disk of Spark full", folder / "shuffled", folder / "local"
    local.mkdir(parents=True)
    (world / "warehouse").mkdir(parents=True)
    with working(world, program.seed, 0, f"spark.local.dir={local}", prefix=in_own_mount(local)) as worker:
        seen = _as_seen_by(worker, local)
        _fill_before_each(checker, kind, program, steps, _Disk(worker, seen, 3, world / "warehouse", f"{local}:"))


@dataclass(frozen=True)
class _Disk:
    """A disk to fill: who writes to it, where it is, how many pages it may have free, and how an error names it."""

    worker: Worker
    folder: Path
    pages: int
    warehouse: Path
    name: str


def _fill_before_each(checker: Checker, kind: str, program: Program, steps: int, disk: _Disk) -> None:
    random = Random(program.seed)
    for number in range(steps):
        _fill(disk.folder, random.randrange(disk.pages))
        if _fails(disk, checker, kind, number):
            checker.check(kind, program, number, _copied(disk))
            (disk.folder / _BALLAST).unlink()
            disk.worker.go()
            disk.worker.expect(f"done {number}")
        else:
            (disk.folder / _BALLAST).unlink()
    left = _copied(disk)
    found, expected = look(left / "warehouse").tables, program.expected(steps).tables()
    if checker.compare(kind, found, expected, f"{left} after all steps"):
        shutil.rmtree(left)


def _copied(disk: _Disk) -> Path:
    """A copy that everybody sees."""
    left = Path(tempfile.mkdtemp(prefix="faults-disk-"))
    shutil.copytree(disk.warehouse, left / "warehouse", ignore=shutil.ignore_patterns(_BALLAST))
    return left


def _as_seen_by(worker: Worker, folder: Path) -> Path:
    return Path(f"/proc/{worker.process.pid}/root{folder}")


def _fill(folder: Path, pages: int) -> None:
    """Leave so many pages free."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with (folder / _BALLAST).open("wb") as ballast:
        ballast.write(bytes(max(0, free - pages * _PAGE)))


def _fails(disk: _Disk, checker: Checker, kind: str, number: int) -> bool:
    """Whether a step fails; its error must name the disk."""
    disk.worker.go()
    said = disk.worker.said() or ""
    if said == f"done {number}":
        return False
    is_named = said.startswith(f"failed {number} FullDiskError ") and disk.name in said and "again is safe" in said
    if not is_named:
        checker.report.of(kind).told.append(f"does not name {disk.name}: {said[:3000]} {disk.worker.log_tail()}")
    return True
