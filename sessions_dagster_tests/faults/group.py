"""A process that works through a program in a group of its own, with its JVM, which can be frozen and killed."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PATIENCE_SECONDS: Final = 300


class Worker:
    """A process of `sessions_dagster_tests.faults.worker`.

    Attributes:
        process: Its Python, the leader of its process group.
    """

    def __init__(self, folder: Path, seed: int, first: int, *options: str, prefix: Sequence[str] = ()) -> None:
        self._log = folder.parent / f"{folder.name}.log"
        words = [str(folder), str(seed), str(first), *options]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "sessions_dagster_tests.faults.worker", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                start_new_session=True,
                env={**os.environ, "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"},
            )

    def go(self) -> None:
        """Let it run its next step."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def said(self, seconds: float = PATIENCE_SECONDS) -> str | None:
        """The next line that it says; None if it says nothing for some time, and "" if it has ended."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, seconds))
        return self.process.stdout.readline().strip() if ready else None

    def expect(self, line: str) -> None:
        """Wait for a line."""
        said = self.said()
        assert said == line, f"{said!r} instead of {line!r}: {self.log_tail()}"

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The whole group stands still in this context."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not all(map(_stands_still, members(self.process.pid))):
                assert time.monotonic() < deadline, "the group does not stop"
                time.sleep(0.001)
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the whole group, and wait until all of it is gone."""
        kill_group(self.process)

    def wait_for_end(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until all of the group is gone."""
        wait_for_end(self.process, seconds)

    def log_tail(self) -> str:
        """The end of what it and its JVM have written to stderr."""
        return self._log.read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """Kill what is left of it."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def working(folder: Path, seed: int, first: int, *options: str, prefix: Sequence[str] = ()) -> Iterator[Worker]:
    """A worker that is ready, and killed with the context.

    Args:
        folder: Where its input and its warehouse are.
        seed: The seed of its program.
        first: The number of its first step.
        options: Further words for it.
        prefix: The words of a program that starts it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    worker = Worker(folder, seed, first, *options, prefix=prefix)
    try:
        worker.expect("ready")
        yield worker
    finally:
        worker.close()


def kill_group(leader: subprocess.Popen[str]) -> None:
    """Kill the whole group of a process, and wait until all of it is gone."""
    if members(leader.pid):
        os.killpg(leader.pid, signal.SIGKILL)
    wait_for_end(leader)


def wait_for_end(leader: subprocess.Popen[str], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until all of the group of a process is gone."""
    leader.wait(seconds)
    deadline = time.monotonic() + seconds
    while members(leader.pid):
        assert time.monotonic() < deadline, f"{members(leader.pid)} go on"
        time.sleep(0.01)


def members(group: int) -> list[int]:
    """The processes of a group that live, zombies left out."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(its_group) == group and state not in "ZX":
                found.append(int(folder.name))
    return found


def _stands_still(pid: int) -> bool:
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
