"""`failover` in labs with alarm and health services: there, back, and with a region dead."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, RunningLab

pytestmark = pytest.mark.lab

MakeLab = Callable[..., RunningLab]
EAST, WEST = "us-east-1", "us-west-2"
REGIONS = f'domain = "example.test"\nregions = ["{EAST}", "{WEST}"]\n'
SHARED = 'code = "service1"\n'
MIXED = (
    f"{REGIONS}[services.service1]\n"
    f'[services.by-alarm]\n{SHARED}switch = "alarm"\n'
    f'[services.by-health]\n{SHARED}switch = "health"\nhealth_path = "/"\n'
    f'[services.by-weight]\n{SHARED}switch = "health"\nrecords = "weighted"\nhealth_path = "/"\n'
)
WITH_DATABASE = (
    f'{REGIONS}[api]\nswitch = "alarm"\n[services.todo]\ndatabase = "aurora"\nswitch = "alarm"\n'
)


def topology(folder: Path, text: str) -> str:
    (folder / "services").symlink_to(ROOT / "services")
    path = folder / "topology.toml"
    path.write_text(text)
    return str(path)


def active(lab: RunningLab) -> dict[str, list[str]]:
    done = lab.failover("status", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)["active"]
    return found


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_services_of_every_switch_go_there_and_back(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab("--topology", topology(tmp_path, MIXED))
    names = list(lab.recovery["services"])
    good(lab.failover("status", "--check"))

    shown = good(lab.failover("evacuate", EAST, "--yes"))
    assert "moves by itself; this holds it in us-west-2" in shown
    assert active(lab) == {name: [WEST] for name in names}
    good(lab.failover("status", "--check"))

    good(lab.failover("move", *names, "--to", EAST, "--yes"))
    assert active(lab) == {name: [EAST] for name in names}
    assert "already there" in good(lab.failover("move", *names, "--to", EAST, "--yes"))


def test_either_region_may_be_dead(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab("--topology", topology(tmp_path, MIXED))
    names = list(lab.recovery["services"])
    by_alarms = [name for name in names if name.startswith("by-")]

    assert lab.lab("fault", "region", EAST, "kill").returncode == 0
    good(lab.failover("evacuate", EAST, "--yes"))
    assert active(lab) == {name: [WEST] for name in names}
    assert lab.failover("move", *by_alarms, "--to", EAST, "--yes").returncode == 4
    assert lab.lab("fault", "region", EAST, "restore").returncode == 0
    assert active(lab) == {name: [WEST] for name in names}, "held, although the primary is well"

    assert lab.lab("fault", "region", WEST, "kill").returncode == 0
    shown = good(lab.failover("evacuate", WEST, "--yes"))
    assert "by-alarm: us-west-2 stays taken over; when it answers again, run:" in shown
    assert active(lab) == {name: [EAST] for name in names}
    assert lab.lab("fault", "region", WEST, "restore").returncode == 0
    assert lab.failover("status", "--check").returncode == 4
    good(lab.failover("move", *by_alarms, "--to", EAST, "--yes"))
    good(lab.failover("status", "--check"))


def test_a_dead_cluster_does_not_stop_what_has_alarms(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab("--topology", topology(tmp_path, MIXED))
    for endpoint in lab.recovery["cluster_endpoints"]:
        assert lab.lab("fault", "arc", endpoint["region"], "refuse").returncode == 0
    good(lab.failover("move", "by-alarm", "--to", WEST, "--yes"))
    assert lab.failover("evacuate", EAST, "--yes", "--deadline", "1").returncode == 5
    done = lab.failover("status", "by-alarm", "by-health", "by-weight", "--json")
    assert set(json.loads(done.stdout)["active"]) == {"by-alarm", "by-health", "by-weight"}
    assert {r for regions in json.loads(done.stdout)["active"].values() for r in regions} == {WEST}


def test_a_database_behind_an_alarm_without_any_cluster(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab("--topology", topology(tmp_path, WITH_DATABASE))
    assert lab.recovery["cluster_endpoints"] == []
    shown = good(lab.failover("move", "todo", "--to", WEST, "--yes"))
    assert "no safety rule guards this service" in shown
    assert active(lab) == {"todo": [WEST], "api": [EAST]}
    good(lab.failover("status", "--check"))
    good(lab.failover("back", "todo", "--yes"))

    assert lab.lab("fault", "region", EAST, "kill").returncode == 0
    assert lab.failover("evacuate", EAST, "--yes").returncode == 5
    good(lab.failover("evacuate", EAST, "--allow-data-loss", "--yes"))
    assert active(lab) == {"todo": [WEST], "api": [WEST]}
    assert lab.lab("fault", "region", EAST, "restore").returncode == 0
    good(lab.failover("back", "todo", "api", "--wait-for-replica", "60", "--yes", timeout=90))
    good(lab.failover("status", "--check"))
