"""The record of outcomes: adding up in any order gives the same report."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.record import FAILED, Cell, Record, cells_of_timeline, merged
from loadtest.report import report, second_events, summary, without_samples

START = 1_700_000_000.0
services = st.sampled_from(["health", "service1"])
outcomes = st.one_of(
    st.tuples(st.just("good"), services, st.sampled_from(["us-east-1", "us-west-2"])),
    st.tuples(st.just("failed"), services, st.sampled_from(["HTTP 502", "TimeoutError"])),
    st.tuples(st.just("mark"), services, st.sampled_from(["writes", "refused"])),
    st.tuples(st.just("socket"), st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.just("")),
)
samples = st.lists(st.tuples(outcomes, st.floats(0, 3, allow_nan=False)), max_size=12)


def record_of(entries: list[tuple[tuple[str, str, str], float]]) -> Record:
    record = Record()
    for (what, name, detail), at in entries:
        if what == "good":
            record.good(name, detail, START + at)
        elif what == "failed":
            record.failed(name, detail, START + at)
        elif what == "mark":
            record.mark(name, detail, START + at, "stopped" if detail == "refused" else "")
        else:
            record.counters["sockets"][name] += 1
    return record


records = samples.map(record_of)


def test_marks_are_no_requests_and_keep_their_times() -> None:
    record = record_of(
        [
            (("good", "todo", "us-east-1"), 0.01),
            (("mark", "todo", "writes"), 0.01),
            (("mark", "todo", "writes"), 0.05),
            (("mark", "todo", "refused"), 1.0),
        ]
    )
    total = record.services()["todo"]
    assert (total["requests"], total["marks"]) == (1, {"writes": 2, "refused": 1})
    assert total["reasons"] == {"refused": {"stopped": 1}}
    writes, refused = record.marks_in_time()
    assert (writes["mark"], writes["count"], refused["mark"]) == ("writes", 2, "refused")
    assert (writes["first"], writes["last"]) == (START + 0.01, START + 0.05)
    assert len(record.timeline()) == 1


@given(records, records, records)
@settings(max_examples=60)
def test_merging_is_associative_and_commutative(a: Record, b: Record, c: Record) -> None:
    assert merged([merged([a, b]), c]) == merged([a, merged([b, c])])
    assert merged([a, b]) == merged([b, a])
    assert merged([a, Record()]) == a


@given(samples, st.integers(0, 12))
@settings(max_examples=60)
def test_cutting_anywhere_and_adding_up_gives_the_whole(entries: Any, cut: int) -> None:
    parts = [record_of(entries[:cut]), record_of(entries[cut:])]
    assert merged(parts) == record_of(entries)


@given(records)
@settings(max_examples=60)
def test_wire_and_json_carry_everything(record: Record) -> None:
    assert Record.from_wire(json.loads(json.dumps(record.to_wire()))) == record


@given(records)
@settings(max_examples=60)
def test_totals_agree_with_the_timeline(record: Record) -> None:
    counted: dict[str, dict[str, int]] = {}
    for service, region, cell in cells_of_timeline(record.timeline()):
        regions = counted.setdefault(service, {})
        regions[region] = regions.get(region, 0) + cell.count
        assert cell.first <= cell.last
    for name, total in record.services().items():
        regions = counted.get(name, {})
        assert total["failed"] == regions.get(FAILED, 0) == sum(total["failures"].values())
        assert total["by_region"] == {r: n for r, n in regions.items() if r != FAILED}
        assert total["requests"] == sum(regions.values())


def test_a_cell_keeps_first_and_last_of_its_tenth_of_a_second() -> None:
    record = Record()
    for at in (START + 0.05, START + 0.01, START + 0.09, START + 0.11):
        record.good("health", "us-east-1", at)
    cells = list(cells_of_timeline(record.timeline()))
    assert cells == [
        ("health", "us-east-1", Cell(3, START + 0.01, START + 0.09)),
        ("health", "us-east-1", Cell(1, START + 0.11, START + 0.11)),
    ]


def test_taking_empties_the_counters_in_place() -> None:
    record = Record()
    sockets = record.counters["sockets"]
    sockets["10.0.0.1"] += 2
    record.failed("health", "HTTP 502", START)
    taken = record.take()
    assert not record
    sockets["10.0.0.1"] += 1
    assert taken.counters["sockets"] == {"10.0.0.1": 2}
    assert record.counters["sockets"] == {"10.0.0.1": 1}


def test_a_service_without_samples_is_listed_and_told() -> None:
    record = Record()
    record.good("health", "us-east-1", START)
    document = report(record, ["health", "todo"], ["us-east-1"], START, START + 1, {})
    assert document["services"]["todo"] == {
        "requests": 0,
        "failed": 0,
        "by_region": {},
        "failures": {},
    }
    assert without_samples(document) == ["todo"]
    assert "todo: 0 requests, 0 failed; no good answer" in summary(document)


def test_live_lines_name_every_expected_service_and_new_sockets_only() -> None:
    quiet = second_events(Record(), START, ["health"], {"10.0.0.1": 4})
    assert [line["kind"] for line in quiet] == ["second"]
    assert quiet[0]["services"]["health"]["requests"] == 0
    part = Record()
    part.counters["sockets"]["10.0.0.2"] += 1
    busy = second_events(part, START, ["health"], {"10.0.0.1": 4, "10.0.0.2": 1})
    assert busy[1] == {
        "kind": "sockets",
        "at": START,
        "opened": {"10.0.0.2": 1},
        "sockets": {"10.0.0.1": 4, "10.0.0.2": 1},
    }
