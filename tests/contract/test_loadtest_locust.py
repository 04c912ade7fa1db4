"""Locust itself, as people start it: headless, several processes, web UI, Ctrl-C.

The traffic meets two real TLS servers and a real name server whose answer changes in the middle.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loadtest_world import REGIONS, World, free_port, wait_until, with_own_port

ROOT = Path(__file__).resolve().parents[2]
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py")]
SERVICES = ("service1", "service2")
USERS = 6
MARGIN = 1.0
"""Seconds on top of the TTL that a busy machine may take."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as running:
        yield running


class Run:
    """One Locust run. Leaves no process behind."""

    def __init__(self, world: World, *arguments: str, **environment: str | None) -> None:
        """`environment` changes the variables; None takes one away."""
        self.folder = world.folder
        known = {name: value for name, value in os.environ.items() if "LOCUST" not in name}
        arguments = with_own_port(arguments)
        known |= {
            "RECOVERY_FILE": str(world.recovery_file),
            "API_URL": world.url,
            "CA_FILE": str(world.folder / "ca.pem"),
            "NAMESERVER": world.nameserver,
        }
        self._log = (self.folder / "locust.log").open("w")
        self.process = subprocess.Popen(
            [*LOCUST, *arguments, "--report", str(self.report_file), "--only-summary"],
            cwd=self.folder,
            env={k: v for k, v in (known | environment).items() if v is not None},
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
    def report_file(self) -> Path:
        return self.folder / "reports" / "load.json"

    @property
    def said(self) -> str:
        return (self.folder / "locust.log").read_text()

    def interrupt(self) -> None:
        """What Ctrl-C in a terminal does: the whole process group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def report(self) -> dict[str, Any]:
        self.process.wait(30)
        document: dict[str, Any] = json.loads(self.report_file.read_text())
        return document


def check_report(report: dict[str, Any], world: World) -> None:
    """The report agrees with itself and with what the servers saw."""
    seen = sum(region.total for region in world.regions.values())
    total = sum(report["services"][name]["requests"] for name in SERVICES)
    # A request that was under way when the users were stopped is known to the server only.
    assert total <= seen <= total + USERS
    for name in SERVICES:
        service = report["services"][name]
        assert service["failed"] == 0
        for region in REGIONS:
            in_timeline = sum(
                entry["regions"].get(region, {"count": 0})["count"]
                for entry in report["timeline"]
                if entry["service"] == name
            )
            assert in_timeline == service["by_region"].get(region, 0)
            served = world.regions[region].requests[f"/{name}/"]
            assert served - USERS <= in_timeline <= served
    assert report["sockets"] == {
        region.address: region.connections
        for region in world.regions.values()
        if region.connections
    }


def first_and_last(report: dict[str, Any], region: str) -> tuple[float, float]:
    seen = [e["regions"][region] for e in report["timeline"] if region in e["regions"]]
    return min(s["first"] for s in seen), max(s["last"] for s in seen)


def flip_in_the_middle(world: World) -> float:
    """Changes the answer once traffic flows, and waits for traffic in the other region."""
    wait_until(lambda: world.east.total >= 40, "traffic in the first region")
    flipped_at = time.time()
    world.answer = [world.west.address]
    wait_until(lambda: world.west.total >= 40, "traffic in the second region")
    return flipped_at


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_traffic_follows_the_name_server_and_ctrl_c_leaves_an_exact_report(
    world: World, processes: tuple[str, ...]
) -> None:
    arguments = ("--headless", "-u", str(USERS), "-r", "100", "--rate", "120", *processes)
    events = world.folder / "events.jsonl"
    with Run(world, *arguments, "--events", str(events)) as run:
        flipped_at = flip_in_the_middle(world)
        run.interrupt()
        report = run.report()
        assert run.process.returncode == 0, run.said
    check_report(report, world)
    first_west, _ = first_and_last(report, "us-west-2")
    _, last_east = first_and_last(report, "us-east-1")
    assert flipped_at < first_west <= flipped_at + world.ttl + MARGIN
    assert last_east <= flipped_at + world.ttl + MARGIN
    assert report["connections"]["answer_changed"] == USERS
    assert report["regions"] == list(REGIONS)
    assert report["arguments"]["rate"] == 120
    assert report["workers"] == ({"reported": 2, "missing": 0} if processes else {})
    check_events(events, report)
    assert f"{world.west.address}: {world.west.connections}" in run.said


def check_events(file: Path, report: dict[str, Any]) -> None:
    """The live stream adds up to the report."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("started", "finished")
    for name in SERVICES:
        for region, count in report["services"][name]["by_region"].items():
            seconds = [line["services"][name] for line in lines if line["kind"] == "second"]
            assert sum(second["by_region"].get(region, 0) for second in seconds) == count
    assert [line["sockets"] for line in lines if line["kind"] == "sockets"][-1] == report["sockets"]


def test_the_rate_asked_for_is_kept_and_a_run_time_ends_the_run(world: World) -> None:
    with Run(world, "--headless", "-u", "6", "-r", "100", "--rate", "100", "-t", "2s") as run:
        report = run.report()
        assert run.process.returncode == 0, run.said
    check_report(report, world)
    first, last = first_and_last(report, "us-east-1")
    total = sum(report["services"][name]["requests"] for name in SERVICES)
    assert 60 <= (total - 1) / (last - first) <= 110


def test_failures_are_counted_by_reason_and_do_not_stop_the_run(world: World) -> None:
    with Run(world, "--headless", "-u", "6", "-r", "100", "--rate", "200") as run:
        wait_until(lambda: world.east.total >= 20, "good answers")
        world.east.mode = "status:502"
        before = world.east.total
        wait_until(lambda: world.east.total >= before + 20, "bad gateways")
        world.east.mode = "no-region"
        before = world.east.total
        wait_until(lambda: world.east.total >= before + 20, "answers without a region")
        world.close_listener(world.east)
        file = run.folder / "locust.log"
        wait_until(lambda: file.exists(), "a log")
        world.answer = [world.west.address]
        wait_until(lambda: world.west.total >= 20, "traffic in the second region")
        run.interrupt()
        report = run.report()
    # Locust's own rule: failed requests make the exit code 1 unless told otherwise.
    assert run.process.returncode == 1
    for name in SERVICES:
        service = report["services"][name]
        assert service["failures"]["HTTP 502"] > 0
        assert service["failures"]["200 without X-Region"] > 0
        assert service["failures"]["ConnectionRefusedError"] > 0
        assert sum(service["failures"].values()) == service["failed"]
        assert service["failed"] + sum(service["by_region"].values()) == service["requests"]


def test_no_data_is_never_green(world: World) -> None:
    with Run(world, "--headless", "-u", "1", "--rate", "50", "-t", "1s") as run:
        report = run.report()
    assert run.process.returncode == 3
    silent = [name for name in SERVICES if report["services"][name]["requests"] == 0]
    assert len(silent) == 1
    assert f"no sample of {silent[0]}" in run.said


def test_single_services_can_be_picked_and_defaults_come_from_recovery_json(world: World) -> None:
    document = json.loads(world.recovery_file.read_text())
    document |= {"dns": {"name_servers": [world.nameserver]}, "tls": {"ca_file": "ca.pem"}}
    world.recovery_file.write_text(json.dumps(document))
    arguments = ["--headless", "-u", "1", "--rate", "50", "-t", "1s", "--connection-max-age", "0"]
    arguments += ["--recovery-file", str(world.recovery_file), "--host", world.url, "Service1User"]
    cleared = {"RECOVERY_FILE": "/absent", "API_URL": "https://absent.invalid"}
    with Run(world, *arguments, **cleared, CA_FILE=None, NAMESERVER=None) as run:
        report = run.report()
        assert run.process.returncode == 0, run.said
    assert list(report["services"]) == ["service1"]
    requests = report["services"]["service1"]["requests"]
    assert requests > 0
    # Every connection carried one request only.
    assert requests <= report["sockets"][world.east.address] <= requests + 1


def test_the_web_ui_shows_which_region_answers(world: World) -> None:
    port = free_port()
    arguments = ["--autostart", "-u", "4", "-r", "100", "--rate", "100"]
    with Run(world, *arguments, "--web-host", "127.0.0.1", "--web-port", str(port)) as run:
        wait_until(lambda: world.east.total >= 20, "traffic")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests", timeout=5) as page:
            names = {entry["name"] for entry in json.load(page)["stats"]}
        assert "service1 [us-east-1]" in names
        run.interrupt()
        report = run.report()
        assert run.process.returncode == 0, run.said
    check_report(report, world)


def test_a_missing_recovery_file_is_one_clear_message(world: World) -> None:
    with Run(world, "--headless", RECOVERY_FILE="/absent.json") as run:
        assert run.process.wait(20) == 2
    assert run.said == "/absent.json: cannot be read: No such file or directory\n"


def test_the_documentation_names_every_argument() -> None:
    locustfile = (ROOT / "loadtest" / "locustfile.py").read_text()
    documentation = (ROOT / "docs" / "load.md").read_text()
    arguments = set(re.findall(r'"(--[a-z-]+)"', locustfile))
    assert len(arguments) >= 8
    for argument in arguments:
        assert f"`{argument}" in documentation, f"docs/load.md does not name {argument}"
