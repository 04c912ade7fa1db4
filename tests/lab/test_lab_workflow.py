"""The failover workflow's own program against the lab: the plan, then the move, as its jobs do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, RunningLab
from test_lab_from_outside import wait_for

pytestmark = pytest.mark.lab


def job(
    lab: RunningLab, folder: Path, mode: str, *, secret: bool = True, **form: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    """One job: a folder of its own with the recovery file, and what the form and GitHub give. The
    second value is the summary of the run."""
    folder.mkdir()
    recovery = {**lab.recovery, "tls": {"ca_file": lab.face["ca_file"]}}
    (folder / "recovery.json").write_text(json.dumps(recovery))
    summary = folder / "summary.md"
    names = {"GITHUB_STEP_SUMMARY": str(summary), **form}
    hidden = "" if secret else "unset $(env | grep -o '^OPERATOR_CLIENT_SECRET[A-Z0-9_]*') ; "
    done = subprocess.run(
        ["sh", "-c", f'. "{lab.directory}/env"; unset RECOVERY_FILE; {hidden}cd "$0"; exec "$@"',
         str(folder), sys.executable, str(ROOT / ".github/failover_run.py"), mode],
        env={**os.environ, **names}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done, summary.read_text()


@pytest.mark.parametrize("target", ["us-west-2", "us-east-1"])
def test_a_move_by_form(lab: RunningLab, tmp_path: Path, target: str) -> None:
    form = {"COMMAND": "move", "SERVICES": "service2", "TARGET": target}
    form["CONFIRM"] = f"move {target}"
    host = lab.recovery["services"]["service2"]["host"]
    before = lab.dig(host)

    planned, plan = job(lab, tmp_path / "plan", "plan", **form)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "--dry-run: exit code 0" in plan
    assert "service2" in plan.partition("```")[2]
    assert lab.dig(host) == before

    moved, said = job(lab, tmp_path / "act", "act", **form)
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert "--yes: exit code 0" in said
    assert wait_for(lambda: lab.dig(host) == [lab.face["regions"][target]["address"]], 5)
    assert len(list((tmp_path / "act" / "journal").glob("*-move-*.json"))) == 1


def test_a_plan_without_the_secret_says_what_it_cannot_see_and_ends_well(
    lab: RunningLab, tmp_path: Path
) -> None:
    form = {"COMMAND": "evacuate", "LEAVE": "us-east-1", "CONFIRM": "evacuate us-east-1"}

    planned, plan = job(lab, tmp_path / "plan", "plan", secret=False, **form)

    assert planned.returncode == 0
    assert "OPERATOR_CLIENT_SECRET" in plan
    assert "service1" in plan


def test_the_recovery_file_fits_into_a_variable_of_the_repository(lab: RunningLab) -> None:
    """48 KB (GitHub: "Variables reference", limits). What one service takes says how many fit."""
    whole = json.dumps(lab.recovery, separators=(",", ":"))
    sizes = [
        len(json.dumps({name: entry}, separators=(",", ":")))
        for name, entry in lab.recovery["services"].items()
    ]
    assert len(whole) + 40 * max(sizes[:3]) < 48 * 1024
