"""Planned moves of todo under 100 writes a second: the write gap, and what was lost.

    python -m bench.database_move [--moves 6] [--delays 0,1]

A writer that retries with its idempotency key writes steadily through the external API while todo
is moved there and back by the operator tool. Its gap is the longest time between two acknowledged
writes around a move; its ledger is compared with the database that serves afterwards. The peer is
the switchover's own delay: the gap may be half a second longer. With `--moves 20 --delays 0` it is
the "20 runs out of 20".

Downside: a move is commanded at a fixed point of the writer's run, so the gap is found by size, not
by place; a pause of the machine's own that is longer would be taken for it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.labs import ROOT, RunningLab, clean_environment, running_lab
from bench.table import Result, at_most, report

RATE = 100
ADDED = 0.5
"""Seconds by which the gap may exceed the switchover's delay."""


@dataclass(frozen=True, slots=True)
class Move:
    gap: float
    lost: int
    """Missing, reverted, resurrected and duplicated rows."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.database_move")
    parser.add_argument("--moves", type=int, default=6, help="per delay (%(default)s)")
    parser.add_argument("--delays", default="0,1", help="switchover delays in seconds")
    options = parser.parse_args()
    results: list[Result] = []
    for delay in (float(text) for text in options.delays.split(",")):
        moves = measure(delay, options.moves)
        results += [
            Result(
                f"write gap, slowest of {len(moves)} moves",
                max(m.gap for m in moves),
                "s",
                "switchover delay",
                delay,
                at_most(delay + ADDED),
            ),
            Result("acknowledged writes lost", sum(m.lost for m in moves), "", target=at_most(0)),
        ]
    return report(results)


def measure(delay: float, count: int) -> list[Move]:
    """Moves there and back in a lab of their own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        directory = Path(folder)
        topology = ROOT / "topology.toml"
        options = ("--set", f"switchover_delay={delay}")
        with running_lab(directory, topology, options=options) as lab:
            regions = itertools.cycle(reversed(lab.recovery["regions"]))  # the second first
            return [move(lab, directory, delay, next(regions)) for _ in range(count)]


def move(lab: RunningLab, directory: Path, delay: float, target: str) -> Move:
    """One move, in the middle of a run of the writer."""
    ledger, numbers = directory / "ledger.jsonl", directory / "writer.json"
    ledger.unlink(missing_ok=True)
    writer = start(
        lab, "loadtest.writer", "--rate", str(RATE), "--seconds", str(5 + delay),
        "--ledger", str(ledger), "--json", str(numbers),
    )  # fmt: skip
    try:
        wait_for_lines(ledger, RATE)
        failover = start(
            lab, "failover", "move", "todo", "--to", target, "--yes",
            "--journal-dir", str(directory / "journal"),
        )  # fmt: skip
        finish(failover)
        finish(writer)
    finally:
        writer.kill()
        writer.wait()
    found = directory / "check.json"
    check = start(lab, "loadtest.ledger", "--ledger", str(ledger), "--json", str(found))
    finish(check, allowed=(0, 1))
    result: dict[str, Any] = json.loads(found.read_text())
    lost = sum(result[kind] for kind in ("missing", "reverted", "resurrected", "duplicated"))
    return Move(json.loads(numbers.read_text())["write_gap_seconds"], lost)


def start(lab: RunningLab, module: str, *arguments: str) -> subprocess.Popen[str]:
    """A command of the project with the variables of the lab's `env`."""
    script = f'. "{lab.directory}/env" && exec "$@"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], allowed: tuple[int, ...] = (0,)) -> None:
    output, _ = process.communicate(timeout=60)
    if process.returncode not in allowed:
        raise SystemExit(f"{process.args}: exit code {process.returncode}\n{output}")


def wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or path.read_text().count("\n") < count:
        if time.monotonic() > deadline:
            raise SystemExit("the writer does not write")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
