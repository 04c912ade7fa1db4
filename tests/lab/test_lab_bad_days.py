"""Regions lost, endpoints hanging, and moves under traffic, each in a lab of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, RunningLab
from test_lab_from_outside import wait_for

pytestmark = pytest.mark.lab

MakeLab = Callable[..., RunningLab]
SERVICES = ("health", "service1", "service2")


def region_of(lab: RunningLab, service: str) -> str | None:
    """Which region answers through the external API; None if nobody does."""
    done = lab.curl(f"{lab.face['api_url']}/{service}/", "--fail")
    return json.loads(done.stdout)["region"] if done.returncode == 0 else None


@pytest.mark.semantics(19, 53)
def test_kill_9_of_a_region_leaves_dns_arc_and_the_other_region(make_lab: MakeLab) -> None:
    lab = make_lab()
    for pid in lab.face["regions"]["us-east-1"]["pids"]:
        os.kill(pid, signal.SIGKILL)
    assert lab.dig("service1.example.test")
    west = lab.face["regions"]["us-west-2"]["pinned"]["service1"]
    assert json.loads(lab.curl(f"{west}/").stdout)["region"] == "us-west-2"

    status = json.loads(lab.failover("status", "--json").stdout)
    assert len(status["endpoints"]["answered"]) == 5
    assert lab.failover("evacuate", "us-east-1", "--allow-data-loss", "--yes").returncode == 0
    for service in SERVICES:
        assert wait_for(lambda s=service: region_of(lab, s) == "us-west-2", 10)


@pytest.mark.semantics(61)
def test_evacuation_with_two_endpoints_hanging(make_lab: MakeLab) -> None:
    lab = make_lab()
    assert lab.lab("fault", "region", "us-east-1", "kill").returncode == 0
    for endpoint in ("eu-west-1", "ap-southeast-2"):
        assert lab.lab("fault", "arc", endpoint, "hang").returncode == 0
    began = time.monotonic()
    done = lab.failover("evacuate", "us-east-1", "--allow-data-loss", "--yes")
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - began < 5
    for service in SERVICES:
        assert wait_for(lambda s=service: region_of(lab, s) == "us-west-2", 10)


def test_a_hanging_region_is_evacuated_and_resumes(make_lab: MakeLab) -> None:
    lab = make_lab()
    assert lab.lab("fault", "region", "us-east-1", "hang").returncode == 0
    assert lab.failover("evacuate", "us-east-1", "--allow-data-loss", "--yes").returncode == 0
    assert wait_for(lambda: region_of(lab, "service1") == "us-west-2", 10)
    assert lab.lab("fault", "clear").returncode == 0
    moved = lab.failover("move", *SERVICES, "api", "--to", "us-east-1", "--yes")
    assert moved.returncode == 0, moved.stdout
    back = lab.failover("back", "todo", "--wait-for-replica", "60", "--yes", timeout=120)
    assert back.returncode == 0, back.stdout
    assert wait_for(lambda: region_of(lab, "service1") == "us-east-1", 10)


def test_without_consent_to_data_loss_the_database_stays(make_lab: MakeLab) -> None:
    lab = make_lab()
    assert lab.lab("fault", "region", "us-east-1", "kill").returncode == 0
    done = lab.failover("evacuate", "us-east-1", "--yes")
    assert done.returncode == 5
    assert "--allow-data-loss" in done.stdout
    assert wait_for(lambda: region_of(lab, "service1") == "us-west-2", 10)
    west = lab.face["regions"]["us-west-2"]["address"]
    assert lab.dig("todo.example.test") != [west]


def test_a_killed_region_comes_back_by_restore(make_lab: MakeLab) -> None:
    lab = make_lab()
    before = lab.face["regions"]["us-east-1"]["pids"]
    assert lab.lab("fault", "region", "us-east-1", "kill").returncode == 0
    assert lab.lab("fault", "region", "us-east-1", "hang").returncode == 4
    assert lab.lab("fault", "region", "us-east-1", "restore").returncode == 0
    assert lab.face["regions"]["us-east-1"]["pids"] != before
    assert region_of(lab, "service1") == "us-east-1"


def test_exit_codes_of_refusals(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab()
    for arguments, code, text in (
        (("move", "service1", "--to", "eu-west-1", "--yes"), 2, "us-east-1"),
        (("move", "service9", "--to", "us-west-2", "--yes"), 2, "service1"),
        (("status", "--recovery-file", str(tmp_path / "none.json")), 2, "none.json"),
    ):
        done = lab.failover(*arguments)
        assert done.returncode == code, done.stderr
        assert text in done.stderr
        assert "Traceback" not in done.stderr
    lab.lab("fault", "region", "us-west-2", "kill")
    blocked = lab.failover("move", "service1", "--to", "us-west-2", "--yes")
    assert blocked.returncode == 4
    for endpoint in lab.face["arc_endpoints"]:
        lab.lab("fault", "arc", endpoint["region"], "refuse")
    unreachable = lab.failover(
        "move", "service1", "--to", "us-west-2", "--yes", "--deadline", "2"
    )
    assert unreachable.returncode == 6
    assert unreachable.stdout.count("connection refused") >= 5


class Locust:
    """The load test as a process, with its report."""

    def __init__(self, lab: RunningLab, directory: Path, *options: str) -> None:
        self.report = directory / "load.json"
        self.events = directory / "events.jsonl"
        self._process = subprocess.Popen(
            ["sh", "-c", f'. "{lab.directory}/env" && exec "$@"', "sh",
             sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless",
             "--users", "12", "--spawn-rate", "100", "--report", str(self.report),
             "--events", str(self.events), *options],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def seen(self, service: str, region: str) -> int:
        """Good answers so far."""
        if not self.events.exists():
            return 0
        lines = [json.loads(x) for x in self.events.read_text().splitlines()[:-1]]
        return sum(
            line["services"][service]["by_region"].get(region, 0)
            for line in lines
            if line["kind"] == "second"
        )

    def stop(self) -> dict[str, Any]:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        return json.loads(self.report.read_text())


def test_a_planned_move_under_traffic_loses_no_request_and_moves_one_service(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab()
    traffic = Locust(lab, tmp_path, "--rate", "100")
    try:
        assert wait_for(lambda: traffic.seen("service1", "us-east-1") >= 50, 30)
        assert lab.failover("move", "service1", "--to", "us-west-2", "--yes").returncode == 0
        assert wait_for(lambda: traffic.seen("service1", "us-west-2") >= 50, 30)
    finally:
        report = traffic.stop()
    for name in SERVICES:
        assert report["services"][name]["failed"] == 0, name
    for name in ("service2", "health"):
        assert set(report["services"][name]["by_region"]) == {"us-east-1"}


def test_a_slow_function_is_told_from_a_dead_region(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.lab("fault", "function", "service2", "us-east-1", "--delay", "6")
    slow = lab.curl(f"{lab.face['api_url']}/service2/", "--include")
    assert " 504 " in slow.stdout.splitlines()[0]
    assert "Endpoint request timed out" in slow.stdout
    assert region_of(lab, "service1") == "us-east-1"
    assert lab.lab("fault", "clear").returncode == 0
    assert region_of(lab, "service2") == "us-east-1"
