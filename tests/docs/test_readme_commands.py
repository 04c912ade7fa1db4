"""What the README tells a reader to type works, in that order, in a fresh copy of the project; and
what the pages about the lab and the switches do.

Every `sh` block is run as it stands. Two lines are treated apart: `make test`, which would run this
test again, and `make load`, which runs until it is stopped. The only settings are a free loopback
network and a free port, so that a lab that the developer has up is not disturbed.

Downside: that an installation from nothing works (`setup.sh`) is not shown here, since it downloads
for minutes; `.ci/run` on a clean machine shows it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_support import (
    ROOT,
    Clone,
    end,
    fenced,
    free_port,
    fresh_environment,
    make_clone,
    wait_for,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

BLOCKS = fenced((ROOT / "README.md").read_text(), "sh")
OWN_NETWORK = "--network auto"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    made = make_clone(tmp_path_factory.mktemp("readme"))
    try:
        yield made
    finally:
        for directory in (".lab", ".lab-2", ".lab/demo"):
            made.sh(f".venv/bin/lab down --lab-dir {directory}", 60)


def test_the_readme_has_commands() -> None:
    assert len(BLOCKS) >= 3
    assert "make demo" in BLOCKS[0]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition("\n")[0])
def test_block_works(clone: Clone, block: str) -> None:
    need(*(tool for tool in ("dig", "curl") if f"{tool} " in block))
    lines = [line for line in block.splitlines() if line != "make test"]
    stays = lines[-1] == "make load"
    script = "\n".join(lines[:-1] if stays else lines)
    done = clone.sh(script, 240, LAB_ARGS=OWN_NETWORK)
    assert done.returncode == 0, done.stdout
    if "make demo" in lines:
        assert_evidence(clone.folder / "reports")
    if "curl" in script:
        assert '"service":"service1"' in done.stdout.replace(" ", "")
    if stays:
        assert_load_test_answers(clone)


def test_the_examples_of_the_lab_page_work(clone: Clone) -> None:
    """All of them in order, as one reader would type them."""
    need("dig", "curl")
    lab_page = (ROOT / "docs/lab.md").read_text()
    for block in fenced(lab_page, "sh", "python"):
        is_python = block.startswith(("import", "from"))
        script = f".venv/bin/python - <<'PYTHON'\n{block}PYTHON\n" if is_python else block
        done = clone.sh(script, 120, LAB_ARGS=OWN_NETWORK)
        assert done.returncode == 0, f"{block}\n{done.stdout}"


def test_the_example_of_the_switches_page_works(clone: Clone) -> None:
    (block,) = fenced((ROOT / "docs/switches.md").read_text(), "sh")
    done = clone.sh(block, 120)
    assert done.returncode == 0, done.stdout
    assert "service2 (alarm)" in done.stdout
    assert "moves by itself" in done.stdout


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed here")


def assert_evidence(reports: Path) -> None:
    """What the README says that the demo writes."""
    assert json.loads((reports / "demo.json").read_text())["verdict"] == "passed"
    assert "service1" in (reports / "demo.html").read_text()


def assert_load_test_answers(clone: Clone) -> None:
    port = free_port()
    process = clone.start("make load", LOAD_PORT=str(port))
    try:
        assert wait_for(lambda: "Locust" in page(port) or process.poll() is not None, 30)
        assert process.poll() is None, process.communicate(timeout=10)[0]
    finally:
        end(process)
        process.communicate(timeout=10)


def page(port: int) -> str:
    """What the web UI shows, or nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def test_the_clone_has_the_documented_console_scripts(clone: Clone) -> None:
    for script in ("lab", "failover", "infra"):
        shown = clone.sh(f".venv/bin/{script} --help", 30)
        assert shown.returncode == 0, shown.stdout
    where = clone.sh(".venv/bin/python -c 'import lab; print(lab.__file__)'", 30)
    assert Path(where.stdout.strip()).is_relative_to(clone.folder)


def test_make_test_runs_all_tests() -> None:
    shown = subprocess.run(
        ["make", "-n", "test"],
        cwd=ROOT, env=fresh_environment(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    first, tests = shown.stdout.splitlines()
    program, *options = tests.split()
    assert (first, program) == ("./setup.sh dev", ".venv/bin/pytest")
    assert options == ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder"]
