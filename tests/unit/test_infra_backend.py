"""The walk over steps: order, parallelism, failures, interruption."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.backend import Walk, needs_of, reversed_needs, walk
from infra.stacks import Application, Stack, Step, stack_list
from infra.steps import Outputs
from infra.topology import Service, Topology

TOPOLOGY = Topology(
    "shop.example-domain.com",
    ("us-east-1", "us-west-2"),
    {"todo": Service("todo", database="aurora"), "a": Service("a")},
)


def steps_of(graph: Mapping[str, set[str]]) -> list[Step]:
    return [Stack(name, "us-east-1", "t.yaml", {}, tuple(graph[name])) for name in graph]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, set[str]]:
    """Needs without a circle, listed in any order."""
    size = draw(st.integers(1, 12))
    graph = {
        f"s{i}": {f"s{j}" for j in draw(st.sets(st.integers(0, i - 1), max_size=4))}
        if i
        else set()
        for i in range(size)
    }
    names = draw(st.permutations(sorted(graph)))
    return {name: graph[name] for name in names}


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_every_step_comes_after_those_it_needs(graph: dict[str, set[str]], workers: int) -> None:
    began: list[str] = []
    lock = threading.Lock()

    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        assert graph[step.name] <= outputs.keys()
        with lock:
            began.append(step.name)
        return {"Name": step.name}

    result = walk(steps_of(graph), act, workers=workers)

    assert sorted(began) == sorted(graph)
    assert {name: outputs["Name"] for name, outputs in result.outputs.items()} == {
        name: name for name in graph
    }


@settings(max_examples=40, deadline=None)
@given(graphs(), st.data())
def test_a_failure_keeps_back_what_needs_it_and_nothing_else_when_going_on(
    graph: dict[str, set[str]], data: st.DataObject
) -> None:
    broken = data.draw(st.sampled_from(sorted(graph)))

    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        if step.name == broken:
            raise OSError("no")
        return {}

    result = walk(steps_of(graph), act, keep_going=True)

    behind = {broken}
    while more := {n for n, needs in graph.items() if needs & behind} - behind:
        behind |= more
    assert result.failures.keys() == {broken}
    assert set(result.skipped) == behind - {broken}
    assert result.outputs.keys() == graph.keys() - behind


def test_one_worker_keeps_the_order_of_the_list() -> None:
    steps = stack_list(TOPOLOGY)

    result = walk(steps, lambda step, outputs: {})

    assert list(result.outputs) == [step.name for step in steps]


def test_what_does_not_need_each_other_runs_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)  # breaks when they run one after the other

    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        if step.name.startswith("certificate-"):
            both.wait()
        return {}

    result = walk(stack_list(TOPOLOGY), act, workers=2)

    assert result.failures == {}


def test_after_a_failure_nothing_new_begins() -> None:
    graph: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}

    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        if step.name == "a":
            raise OSError("no")
        return {}

    result = walk(steps_of(graph), act)

    assert result.outputs == {}
    assert result.skipped == ["b", "c"]


def test_after_a_failure_that_is_tolerated_all_goes_on_that_does_not_need_it() -> None:
    graph: dict[str, set[str]] = {"tells": set(), "alarms": {"tells"}, "b": set(), "c": {"b"}}

    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        if step.name in failing:
            raise OSError("no")
        return {}

    failing = {"tells"}
    result = walk(steps_of(graph), act, tolerated={"tells"})
    assert (set(result.outputs), result.skipped) == ({"b", "c"}, ["alarms"])

    failing = {"tells", "b"}
    result = walk(steps_of(graph), act, tolerated={"tells"})
    assert (set(result.outputs), result.skipped) == (set(), ["alarms", "c"])


def test_an_interruption_ends_what_is_under_way() -> None:
    stopped = threading.Event()

    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        if step.name == "a":
            raise KeyboardInterrupt
        assert stopped.wait(10)
        return {}

    with pytest.raises(KeyboardInterrupt):
        walk(steps_of({"b": set(), "a": set()}), act, workers=2, stop=stopped.set)


def test_steps_that_wait_for_each_other_are_refused_before_anything_is_done() -> None:
    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        raise AssertionError(step.name)

    with pytest.raises(ValueError, match="wait for each other: a, b"):
        walk(steps_of({"a": {"b"}, "b": {"a"}}), act)


def test_taking_down_is_the_reverse() -> None:
    steps = stack_list(TOPOLOGY)
    up = walk(steps, lambda step, outputs: {})

    down: Walk = walk(
        steps, lambda step, outputs: {}, needs=reversed_needs(needs_of(steps))
    )

    position = {name: number for number, name in enumerate(down.outputs)}
    assert position.keys() == up.outputs.keys()
    for step in steps:
        assert all(position[step.name] < position[need] for need in step.needs)
    assert any(isinstance(step, Application) for step in steps)
