"""Runs benchmarks, each in a process of its own, and says which missed a target.

    python -m bench            all of them
    python -m bench NAME…      some
    python -m bench --list     their names, with a line on each

Exit codes: 0 every target met, 1 one missed or a benchmark failed, 2 usage.

Downside: one after the other, so all of them take some four minutes; two at once would measure each
other.
"""

from __future__ import annotations

import argparse
import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
BENCHMARKS = (
    "lab_start",
    "throughput",
    "two_hops",
    "cold_start",
    "move",
    "switches",
    "nameserver",
    "scale",
    "todo",
    "database_move",
)
LIMIT_SECONDS = 180.0
"""For one benchmark; each takes less than a minute where nothing else runs."""
STOP_SECONDS = 20.0
"""In which an interrupted benchmark stops what it has started."""


def headline(name: str) -> str:
    """The first line of a benchmark's docstring, read without importing it."""
    return (ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or "").split("\n")[0]


def run(name: str) -> int:
    """One benchmark's exit code; 1 also when it takes too long. Ends with it when interrupted."""
    print(f"=== {name}: {headline(name)}", flush=True)
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.{name}"],
        cwd=FOLDER.parent,
        process_group=0,  # a Ctrl-C comes here only, and is passed on once
        preexec_fn=heed_ctrl_c,
    )
    try:
        code = process.wait(LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{name} took more than {LIMIT_SECONDS:.0f} s", flush=True)
        code = 1
    finally:
        stop(process)
    print(f"({name}: {time.monotonic() - begun:.0f} s)\n", flush=True)
    return 1 if code else 0


def heed_ctrl_c() -> None:
    """A shell starts background jobs with Ctrl-C ignored, which all their children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a benchmark that still runs, and wait until it has stopped what it had started."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all without a name")
    parser.add_argument("--list", action="store_true", help="what there is")
    given = parser.parse_args(argv)
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(BENCHMARKS)}")
    if given.list:
        for name in BENCHMARKS:
            print(f"{name:16}{headline(name)}")
        return 0
    print("{} CPUs, load average {:.1f} {:.1f} {:.1f}\n".format(os.cpu_count(), *os.getloadavg()))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    missed = [name for name in given.names or BENCHMARKS if run(name)]
    print(f"missed or failed: {', '.join(missed)}" if missed else "every target met")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; what had been started was stopped")
