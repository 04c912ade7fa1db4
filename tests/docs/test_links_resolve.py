"""Every link in a Markdown file leads somewhere: to a file of the project, or to a heading in it.

Links to the web are not fetched; they may be dead and this test would not know.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from docs_support import ROOT, name, pages, project_files, without_fences

_INLINE = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+<?(\S+?)>?$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_WEB = ("http://", "https://", "mailto:")


def links(text: str) -> list[str]:
    prose = _CODE.sub("", without_fences(text))
    return [t for t in _INLINE.findall(prose) + _REFERENCE.findall(prose) if not t.startswith(_WEB)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings; a second equal one gets `-1`."""
    found: set[str] = set()
    for heading in _HEADING.findall(without_fences(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.replace("`", "").replace("*", ""))
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        count = sum(1 for known in found if re.fullmatch(re.escape(slug) + r"(-\d+)?", known))
        found.add(f"{slug}-{count}" if count else slug)
    return found


def fault(page: Path, target: str) -> str | None:
    """Why a link of `page` leads nowhere."""
    path, _, anchor = unquote(target).partition("#")
    there = (page.parent / path).resolve() if path else page
    if not there.is_relative_to(ROOT):
        return "leads out of the project"
    if not there.exists():
        return "there is no such file"
    if anchor and there.suffix == ".md" and anchor not in anchors(there.read_text()):
        return f"{name(there)} has no such heading"
    return None


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_of(page: Path) -> None:
    broken = {t: why for t in links(page.read_text()) if (why := fault(page, t))}
    assert not broken


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        targets = [unquote(t).partition("#")[0] for t in links(page.read_text())]
        waiting += [(page.parent / target).resolve() for target in targets if target]
    alone = {page for page in project_files() if page.match("docs/**/*.md")} - seen
    assert not [name(page) for page in alone]


def test_anchors_are_made_as_github_does() -> None:
    text = "# What is *not* done?\n## `lab up`\n## A.b, c\n## A.b, c\n```\n# none\n```\n"
    assert anchors(text) == {"what-is-not-done", "lab-up", "ab-c", "ab-c-1"}
