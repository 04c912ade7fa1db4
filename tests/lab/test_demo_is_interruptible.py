"""Ctrl-C during the demo: it says so and leaves nothing running, wherever it is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment
from test_lab_commands import processes_of
from test_lab_from_outside import wait_for

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("at", ["packaging", "traffic on every service", "killed without warning"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, at: str) -> None:
    directory = tmp_path / "lab"
    log = tmp_path / "demo.log"
    with log.open("w") as output:
        demo = subprocess.Popen(
            [sys.executable, "-m", "lab.demo", "--lab-dir", str(directory),
             "--reports", str(tmp_path / "reports"), "--samples", "20"],
            cwd=ROOT, env=clean_environment(), stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        assert wait_for(lambda: at in log.read_text(), 90), log.read_text()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(40) == 130, log.read_text()
    finally:
        demo.kill()
        demo.wait()
    assert processes_of(directory) == []
    assert processes_of(tmp_path / "reports") == []
    assert "Traceback" not in log.read_text()
