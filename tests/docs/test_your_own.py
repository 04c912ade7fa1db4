"""The recipes of docs/your-own.md work, each in a fresh copy of the project.

Downside: what a recipe leaves to its reader (texts that name what was removed) is not looked at.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_support import ROOT, fenced, make_clone

from infra.topology import load_topology

PAGE = (ROOT / "docs/your-own.md").read_text()
RECIPES = {
    title: "\n".join(blocks)
    for title, _, text in (part.partition("\n") for part in PAGE.split("\n## ")[1:])
    if (blocks := fenced(text, "sh"))
}
TOTAL = re.compile(r"^together \$([\d,.]+) a month", re.MULTILINE)


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 5


@pytest.mark.timeout(240)
@pytest.mark.parametrize("title", RECIPES)
def test_recipe_works(title: str, tmp_path: Path) -> None:
    clone = make_clone(tmp_path)
    before = load_topology(ROOT / "topology.toml")

    done = clone.sh(RECIPES[title], 200)

    assert done.returncode == 0, done.stdout
    after = load_topology(clone.folder / "topology.toml")
    assert after != before
    assert TOTAL.search(done.stdout), done.stdout


def test_without_a_database_nothing_of_it_is_deployed(tmp_path: Path) -> None:
    clone = make_clone(tmp_path)

    recipe = next(text for title, text in RECIPES.items() if title == "Without a database")
    script = "\n".join(line for line in recipe.splitlines() if "pytest" not in line)
    done = clone.sh(script, 100)

    assert done.returncode == 0, done.stdout
    assert not re.search(r"database|network|users-|secrets|keys-", done.stdout)
