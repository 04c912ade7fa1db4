"""The `lab` command's manners: repeatable, clear about what is wrong, and clean afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BIN, ROOT, RunningLab, clean_environment, run_lab, start_lab
from test_lab_from_outside import wait_for

pytestmark = pytest.mark.lab

MakeLab = Callable[..., RunningLab]


def processes_of(directory: Path) -> list[int]:
    """Living processes that name this lab directory in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_up_and_down_can_be_repeated_and_leave_nothing(tmp_path: Path) -> None:
    lab = start_lab(tmp_path / "lab")
    pids = lab.face["pids"]
    again = run_lab("up", "--network", "auto", "--lab-dir", str(lab.directory))
    assert (again.returncode, "already up" in again.stdout) == (0, True)
    assert lab.face["pids"] == pids

    for expected in ("stopped", "already down"):
        down = run_lab("down", "--lab-dir", str(lab.directory))
        assert down.returncode == 0
        assert expected in down.stdout
    assert processes_of(lab.directory) == []
    assert not (lab.directory / "lab.json").exists()


def test_topology_faults_are_told_all_at_once(tmp_path: Path) -> None:
    topology = tmp_path / "topology.toml"
    topology.write_text(
        'domain = "x"\nregions = ["us-east-1"]\ncolour = 1\n[services.One]\nsize = 2\n'
    )
    done = run_lab("up", "--lab-dir", str(tmp_path / "lab"), "--topology", str(topology))
    assert done.returncode == 2
    for reason in ("colour", "domain", "regions", "services.One", "size"):
        assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named_and_nothing_is_left(make_lab: MakeLab, tmp_path: Path) -> None:
    first = make_lab()
    prefix = first.face["nameserver"].rpartition(".0.1:")[0]
    directory = tmp_path / "second"
    done = run_lab("up", "--network", prefix, "--lab-dir", str(directory))
    assert done.returncode == 4
    for region in first.face["regions"].values():
        assert region["address"] + ":8443" in done.stderr
    assert first.face["nameserver"] in done.stderr
    assert processes_of(directory) == []


def test_one_taken_port_is_enough(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.99.1.10", 8443))
        taken.listen()
        done = run_lab("up", "--network", "127.99", "--lab-dir", str(tmp_path / "lab"))
    assert done.returncode == 4
    assert "127.99.1.10:8443" in done.stderr
    assert "127.99.2.10" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "lab"
    starting = subprocess.Popen(
        [str(BIN / "lab"), "up", "--network", "auto", "--lab-dir", str(directory)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert wait_for(lambda: list(directory.glob("run/*.pid")) != [], 60)
    starting.send_signal(number)
    assert starting.wait(20) == 130
    assert processes_of(directory) == []


def test_a_half_started_lab_is_said_to_be_one_and_up_repairs_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    (lab.directory / "lab.json").unlink()  # as if the start had been killed before its end
    status = json.loads(lab.lab("status", "--json").stdout)
    assert "half started" in status["state"]
    assert start_lab(lab.directory).face["pids"]


def test_faults_need_a_running_lab_and_known_names(lab: RunningLab, tmp_path: Path) -> None:
    nowhere = run_lab("fault", "region", "us-east-1", "kill", "--lab-dir", str(tmp_path))
    assert nowhere.returncode == 4
    assert "lab up" in nowhere.stderr
    wrong = lab.lab("fault", "region", "us-esat-1", "kill")
    assert wrong.returncode == 2
    assert "us-east-1, us-west-2" in wrong.stderr


def test_state_of_the_switches_survives_a_restart(make_lab: MakeLab) -> None:
    lab = make_lab()
    assert lab.failover("move", "service1", "--to", "us-west-2", "--yes").returncode == 0
    assert lab.lab("down").returncode == 0
    again = start_lab(lab.directory)
    west = again.face["regions"]["us-west-2"]["address"]
    assert again.dig("service1.example.test") == [west]
    assert again.dig("service2.example.test") != [west]
