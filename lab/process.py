"""The lab's processes: started detached, found again by pid file, stopped with certainty.

There is no supervisor. `lab up` starts each process in a session of its own and writes its pid and
kernel start time; every later command finds it by that pair, so a reused pid is never signalled.
Downside: a process that dies stays dead until somebody runs `lab up` or `lab fault … restore`.
For a lab that is a feature: killing a region is killing its processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from lab.errors import LabError

STOP_SECONDS = 3.0
"""How long a process may take to end after SIGTERM before it is killed."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that the lab has started. `started` is the kernel's start time in clock ticks."""

    name: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return _start_time(self.pid) == self.started

    @property
    def stopped(self) -> bool:
        """Stopped by a signal (SIGSTOP): it exists, and does nothing."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def signal(self, number: int) -> None:
        """Send a signal if this is still the same process."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end of the block: no process without its pid file."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only
        return
    arrived: list[tuple[int, FrameType | None]] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {int(n): signal.signal(n, lambda *got: arrived.append(got)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, _ in arrived:
            signal.raise_signal(number)


def _start_time(pid: int) -> int | None:
    """Start time of a living process (proc(5), field 22); None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


class ProcessTable:
    """The pid files below `<lab dir>/run`."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir

    def spawn(self, name: str, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> Process:
        """Start a detached process with its output in `log`."""
        self._dir.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output, _uninterrupted():
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(env),
            )
            child.returncode = 0  # detached on purpose: nobody waits for it
            started = _start_time(child.pid)
            if started is None:
                raise LabError(f"{name} ended at once; see {log}")
            process = Process(name, child.pid, started)
            temporary = self._dir / f"{name}.pid.tmp"
            temporary.write_text(json.dumps(asdict(process)))
            temporary.replace(self._dir / f"{name}.pid")
        return process

    def all(self) -> tuple[Process, ...]:
        """Every process that has a pid file, alive or not."""
        found = []
        for path in sorted(self._dir.glob("*.pid")):
            with contextlib.suppress(ValueError, TypeError, FileNotFoundError):
                found.append(Process(**json.loads(path.read_text())))
        return tuple(found)

    def alive(self) -> tuple[Process, ...]:
        return tuple(p for p in self.all() if p.alive)

    def get(self, name: str) -> Process | None:
        """The living process of that name."""
        return next((p for p in self.alive() if p.name == name), None)

    def stop(self, processes: Iterable[Process]) -> None:
        """SIGTERM, then SIGKILL after STOP_SECONDS; returns when all have ended.

        A Ctrl-C meanwhile takes effect afterwards: stopping is never left half done.
        """
        waiting = [p for p in processes if p.alive]
        with _uninterrupted():
            for process in waiting:
                process.signal(signal.SIGTERM)
                process.signal(signal.SIGCONT)  # a hung (stopped) process must wake up to end
            if not wait_until(lambda: not any(p.alive for p in waiting), STOP_SECONDS):
                self.kill(waiting)
            self._forget_dead()

    def kill(self, processes: Iterable[Process]) -> None:
        """SIGKILL; returns when all have ended."""
        waiting = list(processes)
        for process in waiting:
            process.signal(signal.SIGKILL)
        if not wait_until(lambda: not any(p.alive for p in waiting), STOP_SECONDS):
            raise LabError("not killed: " + ", ".join(f"{p.name} ({p.pid})" for p in waiting))
        self._forget_dead()

    def _forget_dead(self) -> None:
        for process in self.all():
            if not process.alive:
                (self._dir / f"{process.name}.pid").unlink(missing_ok=True)


def wait_until(condition: Callable[[], bool], seconds: float, step: float = 0.01) -> bool:
    """Ask `condition()` every `step` seconds; False if it was never true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True
