"""What a person types into the form of the failover workflow, and what is run for it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command_support import ROOT
from hypothesis import given
from hypothesis import strategies as st

from failover.cli import build_parser


def _loaded() -> Any:
    path = ROOT / ".github/failover_run.py"
    spec = importlib.util.spec_from_file_location("failover_run", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _loaded()

MOVE = {
    "COMMAND": "move", "SERVICES": "service1  todo", "TARGET": "us-west-2", "LEAVE": "",
    "ALLOW_DATA_LOSS": "false", "CONFIRM": "move us-west-2",
}  # fmt: skip
EVACUATE = {
    "COMMAND": "evacuate", "SERVICES": "", "TARGET": "", "LEAVE": "us-east-1",
    "ALLOW_DATA_LOSS": "true", "CONFIRM": "evacuate us-east-1 and lose data",
}  # fmt: skip
BACK = {**MOVE, "COMMAND": "back", "TARGET": "us-east-1", "CONFIRM": "back us-east-1"}
STATUS = {"COMMAND": "status"}


@pytest.mark.parametrize(
    ("form", "mode", "expected"),
    [
        (STATUS, "plan", "status"),
        (STATUS | {"SERVICES": "todo"}, "plan", "status todo"),
        (MOVE, "plan", "move service1 todo --to us-west-2 --dry-run"),
        (MOVE, "act", "move service1 todo --to us-west-2 --yes"),
        (EVACUATE, "plan", "evacuate us-east-1 --allow-data-loss --dry-run"),
        (EVACUATE, "act", "evacuate us-east-1 --allow-data-loss --yes"),
        (BACK, "act", "back service1 todo --to us-east-1 --yes"),
    ],
)
def test_a_form_becomes_a_command_that_failover_takes(
    form: dict[str, str], mode: str, expected: str
) -> None:
    assert list(script.faults(form)) == []

    words = script.arguments(form, mode)

    at = words.index("--recovery-file")
    assert words[at + 1] == "recovery.json"
    assert " ".join(words[:at] + words[at + 2 :]) == expected
    options = build_parser().parse_args(words)
    assert options.dry_run is (mode == "plan" and form["COMMAND"] != "status")
    assert options.yes is (mode == "act")
    if form["COMMAND"] != "status":
        assert options.journal_dir == Path("journal")  # what the workflow keeps


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"CONFIRM": "move us-east-1"}, ["confirm: type 'move us-west-2'"]),
        ({"CONFIRM": ""}, ["confirm: type 'move us-west-2'"]),
        (
            {"ALLOW_DATA_LOSS": "true"},
            ["confirm: type 'move us-west-2 and lose data'"],
        ),
        ({"SERVICES": ""}, ["move needs services"]),
        ({"LEAVE": "us-east-1"}, ["move takes no region to leave"]),
        (
            {"SERVICES": "--yes $(id)", "TARGET": "moon"},
            ["'--yes' is no name of a service", "'$(id)' is no name of a service",
             "target: 'moon' is no region", "confirm: type 'move moon'"],
        ),
        ({"COMMAND": "destroy"}, ["command 'destroy': one of status, move, evacuate, back"]),
        (
            {"COMMAND": "evacuate"},
            ["evacuate needs the region to leave", "evacuate takes no services and no target",
             "confirm: type 'evacuate '"],
        ),
        (
            {"COMMAND": "back", "ALLOW_DATA_LOSS": "true"},
            ["back never loses data; leave allow-data-loss out",
             "confirm: type 'back us-west-2 and lose data'"],
        ),
    ],
)  # fmt: skip
def test_every_fault_of_a_form_is_told_at_once(
    change: dict[str, str], expected: list[str]
) -> None:
    assert list(script.faults({**MOVE, **change})) == expected


@given(st.fixed_dictionaries({key: st.text(max_size=20) for key in MOVE if key != "COMMAND"}))
def test_no_text_becomes_an_option(texts: dict[str, str]) -> None:
    form = {**texts, "COMMAND": "move"}
    if list(script.faults({**form, "CONFIRM": script.confirmation(form)})):
        return
    options = [word for word in script.arguments(form, "act") if word.startswith("-")]
    assert set(options) <= {"--to", "--recovery-file", "--yes", "--allow-data-loss"}


def test_secrets_are_passed_on_under_the_names_that_failover_reads() -> None:
    form = {"OPERATOR_CLIENT_SECRET_PRIMARY": "a", "OPERATOR_CLIENT_SECRET_STANDBY": ""}

    assert script.secrets(form, ["us-east-1", "us-west-2"]) == {
        "OPERATOR_CLIENT_SECRET_US_EAST_1": "a"
    }


@pytest.mark.parametrize(
    ("mode", "code", "expected"),
    [("plan", 0, 0), ("plan", 4, 0), ("plan", 2, 2), ("act", 0, 0), ("act", 4, 4), ("act", 5, 5)],
)
def test_a_plan_that_refuses_is_for_the_approver_to_read(
    mode: str, code: int, expected: int
) -> None:
    assert script.outcome(mode, code) == expected


# ---- the whole, with another program in place of failover


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> dict[str, str]:
    """A program that says how it was called; returns the form's other variables."""
    program = folder / "failover"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "print('called', *sys.argv[1:], os.environ.get('OPERATOR_CLIENT_SECRET_US_WEST_2'))\n"
        f"sys.exit({code})\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(script, "FAILOVER", program)
    monkeypatch.chdir(folder)
    regions = ["us-east-1", "us-west-2"]
    (folder / "recovery.json").write_text(json.dumps({"regions": regions}))
    return {
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "OPERATOR_CLIENT_SECRET_STANDBY": "secret",
    }


def test_the_plan_is_in_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    form = {**MOVE, **stand_in(tmp_path, monkeypatch, 4)}

    assert script.main(["plan"], form) == 0

    called = "move service1 todo --to us-west-2 --recovery-file recovery.json --dry-run"
    assert (tmp_path / "summary.md").read_text() == (
        f"### failover {called}: exit code 4\n\n```\ncalled {called} secret\n\n```\n"
    )
    assert f"called {called} secret" in capsys.readouterr().out


def test_a_move_ends_as_failover_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {**EVACUATE, **stand_in(tmp_path, monkeypatch, 5)}

    assert script.main(["act"], form) == 5
    assert "--yes: exit code 5" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("recovery", "change", "reasons"),
    [
        ("", {}, ["RECOVERY_JSON has no recovery file"]),
        ("[]", {"CONFIRM": ""}, ["confirm: type", "RECOVERY_JSON has no recovery file"]),
    ],
)
def test_nothing_is_run_for_a_form_with_faults_or_without_a_recovery_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recovery: str, change: dict[str, str],
    reasons: list[str],
) -> None:  # fmt: skip
    form = {**MOVE, **stand_in(tmp_path, monkeypatch, 0), **change}
    (tmp_path / "recovery.json").write_text(recovery)

    assert script.main(["act"], form) == 2

    summary = (tmp_path / "summary.md").read_text()
    assert "called" not in summary
    assert all(reason in summary for reason in reasons)


def test_a_mode_is_needed() -> None:
    assert script.main([], {}) == 2
