"""Every number of docs/semantics/ is covered by a test that names it, or is not imitated."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUMBERS = set(range(1, 80))


def marked_numbers() -> set[int]:
    """The arguments of every `@pytest.mark.semantics(…)` below tests/."""
    found: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "semantics"
            ):
                found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found


def not_imitated() -> set[int]:
    """The numbers in the table "Not imitated" of docs/lab.md."""
    text = (ROOT / "docs/lab.md").read_text()
    section = text.partition("## Not imitated")[2].partition("\n## ")[0]
    return {int(n) for n in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}


def described() -> set[int]:
    """The numbers that a page of docs/semantics/ explains."""
    pages = [page.read_text() for page in (ROOT / "docs/semantics").glob("*.md")]
    return {int(n) for text in pages for n in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}


def test_every_number_is_tested_or_listed_as_not_imitated() -> None:
    assert marked_numbers() | not_imitated() == NUMBERS
    assert not marked_numbers() & not_imitated()


def test_every_number_is_explained() -> None:
    assert described() | not_imitated() == NUMBERS
