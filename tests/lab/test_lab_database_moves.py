"""Moves of todo's database under writes: planned, interrupted, unplanned, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, ROOT, RunningLab, clean_environment
from test_lab_from_outside import wait_for
from test_lab_todo import body_option, call, token

pytestmark = pytest.mark.lab

MakeLab = Callable[..., RunningLab]
WRITES_PER_SECOND = 50


@contextmanager
def writing(
    lab: RunningLab, directory: Path, exit_codes: tuple[int, ...] = (0,)
) -> Iterator[Path]:
    """A writer with retries while the block runs; gives the ledger's path, ends it politely.

    The writer ends with 1 when it has met a row that is not as it was acknowledged.
    """
    ledger = directory / "ledger.jsonl"
    script = f'. "{lab.directory}/env" && exec "$@"'
    writer = subprocess.Popen(
        ["sh", "-c", script, "sh", sys.executable, "-m", "loadtest.writer",
         "--rate", str(WRITES_PER_SECOND), "--seconds", "0", "--ledger", str(ledger)],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert wait_for(lambda: lines(ledger) > WRITES_PER_SECOND, 20)
        yield ledger
        seen = lines(ledger)
        assert wait_for(lambda: lines(ledger) > seen + WRITES_PER_SECOND, 20)
        writer.send_signal(signal.SIGINT)
        assert writer.wait(30) in exit_codes
    finally:
        writer.kill()
        writer.wait()


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def findings(lab: RunningLab, ledger: Path, *options: str) -> dict[str, Any]:
    """What `loadtest.ledger` says of the database that serves now."""
    result = ledger.with_suffix(".json")
    done = lab.run(
        sys.executable, "-m", "loadtest.ledger", "--ledger", str(ledger), "--json", str(result),
        *options,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    document: dict[str, Any] = json.loads(result.read_text())
    return document


def losses(result: dict[str, Any]) -> int:
    return sum(result[kind] for kind in ("missing", "reverted", "resurrected", "duplicated"))


def test_a_planned_move_under_writes_loses_nothing(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab()
    with writing(lab, tmp_path) as ledger:
        for target in ("us-west-2", "us-east-1"):
            done = lab.failover("move", "todo", "--to", target, "--yes")
            assert done.returncode == 0, done.stdout
    result = findings(lab, ledger)
    assert result["acknowledged"] > 2 * WRITES_PER_SECOND
    assert losses(result) == 0


@pytest.mark.parametrize("after", ["no writes in", "has accepted the switchover", "is the writer"])
def test_a_killed_tool_is_run_again_and_ends_well(
    make_lab: MakeLab, tmp_path: Path, after: str
) -> None:
    lab = make_lab()
    with writing(lab, tmp_path) as ledger:
        script = f'. "{lab.directory}/env" && exec "$@"'
        tool = subprocess.Popen(
            ["sh", "-c", script, "sh", str(BIN / "failover"), "move", "todo", "--to", "us-west-2",
             "--yes", "--journal-dir", str(tmp_path / "journal")],
            cwd=ROOT, env={**clean_environment(), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert tool.stdout is not None
        said = ""
        while after not in said:
            line = tool.stdout.readline()
            assert line, said
            said += line
        os.kill(tool.pid, signal.SIGKILL)
        tool.communicate()
        again = lab.failover("move", "todo", "--to", "us-west-2", "--yes")
        assert again.returncode == 0, again.stdout
    assert losses(findings(lab, ledger)) == 0
    assert lab.dig("todo.example.test") == [lab.face["regions"]["us-west-2"]["address"]]


def test_an_unplanned_failover_counts_its_losses_and_keeps_them(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab("--set", "replication_delay=0.064")
    with writing(lab, tmp_path, exit_codes=(0, 1)) as ledger:
        assert lab.lab("fault", "region", "us-east-1", "kill").returncode == 0
        done = lab.failover("evacuate", "us-east-1", "--allow-data-loss", "--yes")
        assert done.returncode == 0, done.stdout
        assert "WILL BE LOST" in done.stdout
    counted = losses(findings(lab, ledger))

    assert lab.lab("fault", "region", "us-east-1", "restore").returncode == 0
    differences = tmp_path / "differences.jsonl"

    def kept() -> bool:
        lost = [sys.executable, "-m", "lab.aurora.lost", "--lab-dir", str(lab.directory)]
        found = lab.run(*lost)
        differences.write_text(found.stdout)
        return found.returncode == 0

    assert wait_for(kept, 60)
    first = str(ledger.with_suffix(".json"))
    compared = findings(lab, ledger, "--confirm", first, "--differences", str(differences))
    assert losses(compared) == counted
    assert compared["duplicated"] == 0
    assert compared["lost_volume"]["confirmed"] == counted
    assert compared["lost_volume"]["unconfirmed"] == []

    back = lab.failover("back", "todo", "--wait-for-replica", "60", "--yes", timeout=120)
    assert back.returncode == 0, back.stdout


def test_tokens_work_while_the_region_of_their_pool_is_dead(make_lab: MakeLab) -> None:
    lab = make_lab()
    bearer = token(lab, "us-east-1")
    assert lab.lab("fault", "region", "us-east-1", "kill").returncode == 0
    done = lab.failover("evacuate", "us-east-1", "--allow-data-loss", "--yes")
    assert done.returncode == 0, done.stdout

    def reads() -> bool:
        return call(lab, "GET", "/todos", bearer).status == 200

    assert wait_for(reads, 10)
    created = call(lab, "POST", "/todos", bearer, *body_option({"task": "from the other side"}))
    assert (created.status, created.body["region"]) == (201, "us-west-2")
    assert call(lab, "GET", "/todos", token(lab, "us-west-2")).status == 200


def test_a_hung_primary_does_not_hang_callers(make_lab: MakeLab) -> None:
    lab = make_lab()
    bearer = token(lab, "us-east-1")
    assert call(lab, "POST", "/todos", bearer, *body_option({"task": "before"})).status == 201
    assert lab.lab("fault", "database", "us-east-1", "hang").returncode == 0
    began = time.monotonic()
    hung = call(lab, "POST", "/todos", bearer, *body_option({"task": "during"}))
    assert hung.status in (503, 504)
    assert time.monotonic() - began < 8  # the external API's own time-out is 5 s
    assert lab.lab("fault", "database", "us-east-1", "resume").returncode == 0

    def writes() -> bool:
        return call(lab, "POST", "/todos", bearer, *body_option({"task": "after"})).status == 201

    assert wait_for(writes, 15)
