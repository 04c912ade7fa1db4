"""Files are as a reader expects them: nothing in them speaks of the machine on which they were
written, they end as text files do, no module is too long to read, and the import rules hold.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_support import ROOT, name, project_files

_FOREIGN = re.compile(
    r"(?<![\w.-])/(?:work|root|home/\w+|opt/wheels)\b"
    r"|shared/(?:design|semantics)|(?i:\bissue #?\d)|contracts3?\.md"
)
_MOST_LINES = 500
LONGER = {
    "tests/unit/test_stacks_loading.py": "one table of templates and what is wrong with each",
}
"""Python files that may be longer, and why."""


def text_of(path: Path) -> str | None:
    """None for what is no text (wheels) or only a link."""
    if path.is_symlink():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


TEXTS = {path: text for path in project_files() if (text := text_of(path)) is not None}


def test_nothing_names_the_machine_or_the_work_behind_it() -> None:
    me = Path(__file__)
    found = {
        f"{name(path)}:{number}": line.strip()
        for path, text in TEXTS.items()
        if path != me
        for number, line in enumerate(text.splitlines(), 1)
        if _FOREIGN.search(line)
    }
    assert not found


def test_text_files_end_with_one_newline() -> None:
    wrong = [
        name(p) for p, t in TEXTS.items() if t and (not t.endswith("\n") or t.endswith("\n\n"))
    ]
    assert not wrong


def test_no_module_is_too_long() -> None:
    lengths = {name(p): t.count("\n") for p, t in TEXTS.items() if p.suffix == ".py"}
    too_long = {path for path, lines in lengths.items() if lines > _MOST_LINES}
    assert too_long == set(LONGER)


@pytest.mark.parametrize("service", sorted(p.parent.name for p in ROOT.glob("services/*/app.py")))
def test_services_import_nothing_of_the_project(service: str) -> None:
    """They are packaged alone. `testing/` is not packaged."""
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    for path in (ROOT / "services" / service).rglob("*.py"):
        if "testing" not in path.parts:
            assert not imported(path) & ours, name(path)


def imported(path: Path) -> set[str]:
    """The first names of everything that a file imports, but relatively."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
