"""The page: self-contained, escaped, readable without colours or eyes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loadtest_evidence import (
    DEMO,
    EAST,
    REGIONS,
    SERVICES,
    SETTLE,
    START,
    WEST,
    but,
    demo,
    run,
)

from loadtest.chart import Axis, Mark, _label_rows, _span, chart, columns, story
from loadtest.evidence import judge
from loadtest.moves import parse
from loadtest.page import page
from loadtest.record import FAILED, Record
from loadtest.report import report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Tree(HTMLParser):
    """Checks that tags are closed in order, and collects what is to be looked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def made(where: Any = demo, moves: Any = DEMO) -> str:
    document = run(where)
    return page(judge(document, parse(moves, REGIONS), SETTLE), document["timeline"])


def test_the_page_shows_verdict_charts_and_numbers() -> None:
    tree = Tree(made())
    text = " ".join(tree.text)
    for wanted in ("Verdict: passed", *SERVICES, "1,200", "planned move to us-west-2, 0.90 s"):
        assert wanted in text
    assert "us-east-1 killed, 4.50 s" in text
    assert "evacuation to us-west-2" in text
    charts = [a for tag, a in tree.attributes if tag == "svg" and a.get("role") == "img"]
    assert len(charts) == len(SERVICES)


def test_the_page_needs_no_network_and_no_script() -> None:
    tree = Tree(made())
    assert {tag for tag, _ in tree.attributes} & {"script", "link", "img", "iframe"} == set()
    for _, attributes in tree.attributes:
        assert not {"src", "href"} & set(attributes)
    assert not re.search(r"url\((?!#)|@import|https?://", made())


def test_every_chart_has_a_title_and_its_content_in_words() -> None:
    tree = Tree(made())
    ids = [a["id"] for _, a in tree.attributes if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in tree.attributes:
        if tag == "svg" and attributes.get("role") == "img":
            assert set((attributes["aria-labelledby"] or "").split()) <= set(ids)
    told = "us-east-1 0–30 s, no good answer 30–34.5 s, us-west-2 34.5–60 s; 90 failed"
    assert " ".join(tree.text).count(told) == 4  # health and service2: below and within the chart


def test_reasons_stand_on_top_when_the_verdict_is_failed() -> None:
    text = made(but(demo, "service2", 14, 14.1, WEST))
    assert "Verdict: failed" in text
    assert text.index("service2 answered 2 times") < text.index("<section")


def test_all_text_from_outside_is_escaped() -> None:
    evil = '<script>alert("x")</script>&'
    record = Record()
    record.good(evil, evil, START + 1)
    record.failed(evil, evil, START + 2)
    record.counters["sockets"][evil] += 1
    record.counters["connections"][evil] += 1
    document = report(record, [evil], [evil, WEST], START, START + 4, {})
    moves = parse(
        [
            {
                "kind": "planned_move",
                "service": evil,
                "from": evil,
                "to": WEST,
                "commanded_at": START + 1,
                "ended_at": START + 2,
            }
        ],
        [evil, WEST],
    )
    text = page(judge(document, moves, SETTLE), document["timeline"], evil)
    assert "<script" not in text
    Tree(text)


def test_a_run_that_never_started_has_a_page_too() -> None:
    empty = report(Record(), SERVICES, REGIONS, None, None, {})
    text = page(judge(empty, (), SETTLE), [])
    assert "never started" in text
    Tree(text)


def test_failures_are_hatched_and_marked_below_however_few() -> None:
    document = run(but(demo, "service1", 11.5, 11.55, ""))
    axis = Axis(START, START + 60)
    counted = columns(document["timeline"], "service1", axis)
    assert counted[11] == {WEST: 19, FAILED: 1}
    svg = chart("service1", counted, axis, [], REGIONS, "c")
    failing = sum(1 for column in counted.values() if FAILED in column)
    assert svg.count('class="failed"') == svg.count('class="failed-mark"') == failing


def test_regions_keep_their_colours() -> None:
    axis = Axis(START, START + 2)
    svg = chart("s", {0: {WEST: 1, EAST: 1}, 1: {"elsewhere": 1}}, axis, [], REGIONS, "c")
    assert re.findall(r'class="(region-\w+)"', svg) == ["region-0", "region-1", "region-other"]


@pytest.mark.parametrize(
    ("seconds", "requests", "column"),
    [(14, 1400, 0.2), (60, 2000, 0.5), (60, 120, 2), (60, 0, 1), (14, 1, 60), (7200, 10**6, 30)],
)
def test_columns_are_as_short_as_the_requests_allow(
    seconds: float, requests: int, column: float
) -> None:
    assert Axis(START, START + seconds, requests).column == column


def test_long_runs_get_wider_columns_and_a_short_story() -> None:
    axis = Axis(START, START + 3600)
    assert axis.column == 15
    flapping = {number: {REGIONS[number % 2]: 1} for number in range(100)}
    assert story(flapping, axis).count(",") <= 17
    assert "84 more changes" in story(flapping, axis)
    assert story({}, axis) == "no requests; no failed"


marks = st.lists(
    st.builds(
        Mark,
        st.floats(START, START + 60),
        st.text("abcdefgh ", min_size=1, max_size=40),
        st.booleans(),
    ),
    max_size=8,
).map(lambda found: sorted(found, key=lambda mark: mark.at))


@given(marks)
@settings(max_examples=100)
def test_no_label_covers_another(found: list[Mark]) -> None:
    axis = Axis(START, START + 60)
    rows = _label_rows(found, axis)
    for i, j in combinations(range(len(found)), 2):
        if rows[i] == rows[j]:
            a, b = (_span(found[k], axis.x(found[k].at)) for k in (i, j))
            assert a[1] <= b[0] or b[1] <= a[0]


@pytest.mark.parametrize("count", [0, 1])
def test_few_marks_need_few_rows(count: int) -> None:
    assert _label_rows([Mark(START, "a", True)] * count, Axis(START, START + 1)) == [0] * count
