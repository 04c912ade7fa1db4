from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from failover_fakes import document

from failover import cli
from failover.errors import EXIT_CODES, CallRejected, FailoverError, SafetyRuleRefusal
from failover.verdict import STATUSES, settle


def test_help_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["move", "--help"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert all(f"{code:>3}  {text}" in shown for code, text in EXIT_CODES.items())


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["mvoe"],
        ["move"],
        ["move", "service1"],
        ["evacuate"],
        ["move", "service1", "--to", "us-west-2", "--wait", "-1"],
        ["move", "service1", "--to", "us-west-2", "--wait", "soon"],
        ["move", "service1", "--to", "us-west-2", "--without-target"],
    ],
)
def test_a_wrong_command_line_is_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2


def test_a_missing_recovery_file_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECOVERY_FILE", raising=False)
    assert cli.main(["status"]) == 2
    assert "there is no recovery file recovery.json" in capsys.readouterr().err
    monkeypatch.setenv("RECOVERY_FILE", str(tmp_path / "elsewhere.json"))
    assert cli.main(["status", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["exit_code"] == 2
    assert "elsewhere.json" in captured.err


def test_wrong_names_are_2_before_anything_is_contacted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recovery.json"
    file.write_text(json.dumps(document("service1")))
    words = ["move", "sevice1", "--to", "us-wets-2", "--yes", "--recovery-file", str(file)]
    assert cli.main(words) == 2
    shown = capsys.readouterr().err
    assert "known are service1" in shown
    assert "known are us-east-1, us-west-2" in shown


def test_help_and_wrong_names_load_nothing_heavy() -> None:
    code = (
        "import sys; from failover import cli\n"
        "cli.build_parser()\n"
        "from failover import recovery, commands\n"
        "print([m for m in ('botocore', 'dnslib', 'urllib3') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


REFUSAL = SafetyRuleRefusal("no")


@pytest.mark.parametrize(
    ("changed", "failures", "unconfirmed", "left_out", "code", "deviated"),
    [
        ([], {}, {}, {}, 0, False),
        (["a"], {}, {}, {}, 0, False),
        ([], {"a": REFUSAL}, {}, {}, 3, True),
        (["b"], {"a": REFUSAL}, {}, {}, 5, True),
        ([], {"a": CallRejected("AccessDeniedException", "no")}, {}, {}, 1, True),
        ([], {}, {}, {"a": "why"}, 4, True),
        (["b"], {}, {}, {"a": "why"}, 5, True),
        (["a"], {}, {"a": "not seen"}, {}, 5, True),
        ([], {}, {"a": "not seen"}, {}, 5, True),
    ],
)
def test_the_verdict(
    changed: list[str],
    failures: dict[str, FailoverError],
    unconfirmed: dict[str, str],
    left_out: dict[str, str],
    code: int,
    deviated: bool,
) -> None:
    verdict = settle(changed, failures, unconfirmed, left_out)
    assert (verdict.exit_code, verdict.deviated) == (code, deviated)
    assert bool(verdict.reasons) == deviated


def test_every_exit_code_has_a_status() -> None:
    assert STATUSES.keys() == EXIT_CODES.keys()
