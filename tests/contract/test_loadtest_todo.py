"""Locust's users of a service with a database, as people start them, against a small todo API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loadtest_todo_world import TodoWorld
from loadtest_world import REGIONS, wait_until, with_own_port

from loadtest.operations import read_ledger

ROOT = Path(__file__).resolve().parents[2]
EAST, WEST = REGIONS
PLENTY = ("-u", "10", "-r", "100", "--rate", "100", "--todo-writes-per-second", "100")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TodoWorld]:
    with TodoWorld(tmp_path) as running:
        yield running


class Run:
    """One headless Locust run. Leaves no process behind."""

    def __init__(self, world: TodoWorld, *arguments: str, **environment: str) -> None:
        self.folder = world.folder
        known = {name: value for name, value in os.environ.items() if "LOCUST" not in name}
        known |= {
            "RECOVERY_FILE": str(world.recovery_file),
            "API_URL": world.url,
            "CA_FILE": str(world.folder / "ca.pem"),
            "NAMESERVER": world.nameserver,
            "TOKENS_FILE": str(world.tokens_file),
            **environment,
        }
        self._environment = known
        self._log = (self.folder / "locust.log").open("w")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py")),
                *("--headless", "--only-summary", "--report", str(self.folder / "load.json")),
                *("--ledger", str(self.folder / "ledger.jsonl"), *with_own_port(arguments)),
            ],
            cwd=self.folder,
            env=known,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._log.close()

    @property
    def said(self) -> str:
        return (self.folder / "locust.log").read_text()

    def report(self, *, interrupt: bool = True) -> dict[str, Any]:
        if interrupt:
            os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(30)
        document: dict[str, Any] = json.loads((self.folder / "load.json").read_text())
        return document

    def check(self) -> dict[str, Any]:
        """The ledger against the rows that are served."""
        file = self.folder / "check.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "loadtest.ledger", "--confirm-after", "0.2"),
                *("--ledger", str(self.folder / "ledger*.jsonl"), "--json", str(file)),
            ],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
        document: dict[str, Any] = json.loads(file.read_text())
        return document


def written(world: TodoWorld, region: str, more: int) -> None:
    before = world.changes[region]
    wait_until(lambda: world.changes[region] >= before + more, f"{more} changes in {region}")


def planned_move(world: TodoWorld) -> None:
    """Some of it goes wrong on the way, as it may."""
    written(world, EAST, 60)
    world.call(lambda: setattr(world, "answers_to_lose", 2))
    written(world, EAST, 20)
    world.drain()
    seen = world.east.requests["/todo/todos"]
    wait_until(lambda: world.east.requests["/todo/todos"] >= seen + 10, "refused attempts")
    world.open(WEST)
    written(world, WEST, 60)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_a_planned_move_costs_refused_attempts_and_nothing_else(
    world: TodoWorld, processes: tuple[str, ...]
) -> None:
    with Run(world, *PLENTY, *processes) as run:
        planned_move(world)
        report = run.report()
        assert run.process.returncode == 0, run.said
    service = report["services"]["todo"]
    assert service["failed"] == 0
    assert set(service["by_region"]) == set(REGIONS)
    assert service["marks"]["refused"] > 0
    assert service["marks"]["repeated"] == sum(service["reasons"]["repeated"].values()) >= 1
    assert service["reasons"]["refused"] == {
        "This region does not take writes now": service["marks"]["refused"]
    }
    assert "contradicted" not in service["marks"]
    # A write is counted once, when it is acknowledged.
    files = sorted(path.name for path in run.folder.glob("ledger*.jsonl"))
    assert files == (
        ["ledger.0.jsonl", "ledger.1.jsonl", "ledger.jsonl"] if processes else ["ledger.jsonl"]
    )
    operations = read_ledger(run.folder.glob("ledger*.jsonl"))
    acknowledged = [o for o in operations.values() if o.state == "acknowledged"]
    assert len(acknowledged) == service["marks"]["writes"]
    assert {o.state for o in operations.values()} <= {"acknowledged", "sent"}
    # Reads and stateless services went on meanwhile.
    assert service["requests"] > service["marks"]["writes"]
    assert report["services"]["service1"]["failed"] == 0
    assert sum(e["count"] for e in report["marks"] if e["mark"] == "writes") == len(acknowledged)
    check = run.check()
    assert check["acknowledged"] == len(acknowledged)
    assert check["others"] == 0
    assert not check["findings"]


def test_lost_writes_are_marked_and_left_for_the_check(world: TodoWorld) -> None:
    with Run(world, *PLENTY) as run:
        written(world, EAST, 100)
        world.call(lambda: setattr(world, "is_replicating", False))
        written(world, EAST, 60)
        left, kept = world.fail_over(WEST)
        written(world, WEST, 60)
        report = run.report()
        assert run.process.returncode == 0, run.said
    assert report["services"]["todo"]["failed"] == 0
    assert report["services"]["todo"]["marks"]["contradicted"] > 0
    check = run.check()
    # A delete that the end of the run cut off may have happened, so its row is not counted as lost.
    operations = read_ledger(run.folder.glob("ledger*.jsonl")).values()
    cut_off = {o.id for o in operations if (o.op, o.state) == ("delete", "sent")}
    missing = {row_id for _, row_id in left.keys() - kept.keys()}
    assert check["missing"] == len(missing - cut_off)
    assert check["resurrected"] == len(kept.keys() - left.keys())
    changed = [p for p in left.keys() & kept.keys() if left[p] != kept[p]]
    assert check["reverted"] == len(changed)


def test_the_rates_of_readers_and_writers_are_kept_apart(world: TodoWorld) -> None:
    arguments = ("-u", "9", "-r", "100", "--rate", "60", "--todo-writes-per-second", "30")
    with Run(world, *arguments, "--todo-write-share", "0", "-t", "3s") as run:
        report = run.report(interrupt=False)
        assert run.process.returncode == 0, run.said
    assert report["arguments"]["users"] == 9
    writes = report["services"]["todo"]["marks"]["writes"]
    others = sum(s["requests"] for s in report["services"].values()) - writes
    assert 50 <= writes <= 100
    assert 110 <= others <= 200


def test_a_write_that_is_never_acknowledged_has_failed(world: TodoWorld) -> None:
    world.is_open = False
    with Run(world, *PLENTY, "--todo-deadline", "0.3") as run:
        wait_until(lambda: world.east.requests["/todo/todos"] >= 60, "refused attempts")
        report = run.report()
    assert run.process.returncode == 1
    service = report["services"]["todo"]
    reason = "create not acknowledged: This region does not take writes now"
    assert service["failures"][reason] == service["failed"] > 0
    assert "writes" not in service["marks"]


def test_writers_can_be_left_out(world: TodoWorld) -> None:
    arguments = ("-u", "6", "-r", "100", "--rate", "100", "--todo-writes-per-second", "0")
    with Run(world, *arguments, "--todo-write-share", "0", "-t", "1s") as run:
        report = run.report(interrupt=False)
        assert run.process.returncode == 0, run.said
    assert report["services"]["todo"]["requests"] > 0
    assert "marks" not in report["services"]["todo"]


def test_unusable_clients_are_one_clear_message(world: TodoWorld) -> None:
    world.tokens_file.write_text('{"us-east-1": {"token_url": "x"}}')
    with Run(world, "-u", "1") as run:
        assert run.process.wait(20) == 2
    assert "default, us-east-1: client_id, client_secret missing" in run.said


def test_without_clients_the_service_is_left_out_with_a_warning(world: TodoWorld) -> None:
    arguments = ("-u", "4", "-r", "100", "--rate", "50", "-t", "1s")
    with Run(world, *arguments, TOKENS_FILE="") as run:
        report = run.report(interrupt=False)
        assert run.process.returncode == 0, run.said
    assert "todo" not in report["services"]
    assert "no traffic for todo" in run.said
