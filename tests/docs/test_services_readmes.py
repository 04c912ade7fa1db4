"""Every service has a README, and what it says that the service answers is what it answers.

A block of commands that begins with `. .lab/env` is run, in a folder whose `.lab` is a lab of this
test. The comments after a command are its documented answer: an ellipsis stands for anything, and
white space does not matter.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_support import ROOT, fenced, fresh_environment

from infra.topology import load_topology

LAB = str(Path(sys.executable).with_name("lab"))
TOPOLOGY = load_topology(ROOT / "topology.toml")
FOLDERS = sorted(path.parent.name for path in (ROOT / "services").glob("*/app.py"))
SERVED = sorted({service.folder for service in TOPOLOGY.services.values()})
START = ". .lab/env\n"


def readme(folder: str) -> str:
    return (ROOT / "services" / folder / "README.md").read_text()


def blocks(folder: str) -> list[str]:
    return [block for block in fenced(readme(folder), "sh") if block.startswith(START)]


@pytest.fixture(scope="module")
def beside_a_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a running lab in `.lab`, and this project's programs in `.venv`."""
    folder = tmp_path_factory.mktemp("services")
    lab = ("--lab-dir", str(folder / ".lab"))
    try:
        started = run([LAB, "up", "--network", "auto", *lab], ROOT, 120)
        assert started.returncode == 0, started.stdout
        (folder / ".venv").symlink_to(Path(LAB).parents[1])
        yield folder
    finally:
        run([LAB, "down", *lab], ROOT, 60)


def run(command: list[str], folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=fresh_environment(), text=True, timeout=timeout, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def steps(block: str) -> Iterator[tuple[str, list[str]]]:
    """Parts of a block: commands, and the fragments that their output must have, in order."""
    for commands, comments in re.findall(r"((?:^(?!# ).*\n)+)((?:^# .*\n)*)", block, re.MULTILINE):
        parts = [p for line in comments.splitlines() for p in line.removeprefix("# ").split("…")]
        yield commands, [fragment for part in parts if (fragment := "".join(part.split()))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_has_a_readme_with_a_request(folder: str) -> None:
    assert re.search(r"\b(GET|POST)\b|curl", readme(folder))
    assert fenced(readme(folder), "sh")


@pytest.mark.lab
@pytest.mark.skipif(not (shutil.which("dig") and shutil.which("curl")), reason="needs dig and curl")
@pytest.mark.parametrize("folder", SERVED)
def test_documented_requests_get_the_documented_answers(folder: str, beside_a_lab: Path) -> None:
    assert blocks(folder), f"the README has no block that begins with {START!r}"
    assert any(expected for block in blocks(folder) for _, expected in steps(block))
    for block in blocks(folder):
        so_far = "set -eu\n"
        for commands, expected in steps(block):
            script = f"{{ {so_far}\n}} >/dev/null 2>&1\n{commands}"
            done = run(["sh", "-c", script], beside_a_lab, 60)
            assert done.returncode == 0, done.stdout
            assert_has(done.stdout, expected)
            so_far += commands


def assert_has(output: str, fragments: list[str]) -> None:
    seen, position = "".join(output.split()), 0
    for fragment in fragments:
        found = seen.find(fragment, position)
        assert found >= 0, f"{fragment!r} is not in {output!r} at its place"
        position = found + len(fragment)


def test_answers_are_compared_part_by_part() -> None:
    block = '. .lab/env\nA=1\necho "{\\"a\\": $A, \\"b\\": 2}"\n# {"a": 1, …}\necho no\n# yes\n'
    (first, expected), (_, refused) = steps(block)
    assert first.endswith('2}"\n')
    assert_has('{"a":1,"b":2}', expected)
    with pytest.raises(AssertionError):
        assert_has("no", refused)
