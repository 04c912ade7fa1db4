"""Intrinsic functions: tables of values, and of faults with their paths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.stacks.intrinsics import BROKEN, NO_VALUE, Resolver, Scope


def resolver(**given: Any) -> Resolver:
    scope = Scope(
        "web",
        "us-west-2",
        {"Name": "todo", "Count": "3", "Zones": ["a", "b"], "Empty": ""},
        {"Sizes": {"us-west-2": {"small": 128, "list": ["x", "y"]}}},
        {
            "Yes": {"Fn::Equals": [{"Ref": "Name"}, "todo"]},
            "No": {"Fn::Not": [{"Condition": "Yes"}]},
            "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
            "Either": {"Fn::Or": [{"Condition": "No"}, {"Condition": "Yes"}]},
            "Loop": {"Fn::Not": [{"Condition": "Pool"}]},
            "Pool": {"Condition": "Loop"},
            "Dangling": {"Fn::Equals": [{"Ref": "Nowhere"}, "x"]},
            **given,
        },
        {"Queue": ("queue-1", {"Arn": "arn:queue", "Url.Host": "h", "Hosts": ["h1", "h2"]})},
        absent={"Skipped"},
        broken={"Faulty"},
    )
    return Resolver(scope, [])


VALUES: list[tuple[Any, Any]] = [
    ("text", "text"),
    (7, 7),
    (None, None),
    ({"a": [1, {"b": True}]}, {"a": [1, {"b": True}]}),
    ({"Ref": "Name"}, "todo"),
    ({"Ref": "Zones"}, ["a", "b"]),
    ({"Ref": "Queue"}, "queue-1"),
    ({"Ref": "AWS::Region"}, "us-west-2"),
    ({"Ref": "AWS::AccountId"}, "111122223333"),
    ({"Ref": "AWS::Partition"}, "aws"),
    ({"Ref": "AWS::URLSuffix"}, "amazonaws.com"),
    ({"Ref": "AWS::StackName"}, "web"),
    (
        {"Ref": "AWS::StackId"},
        "arn:aws:cloudformation:us-west-2:111122223333:stack/web/lab",
    ),
    ({"Ref": "AWS::NotificationARNs"}, []),
    ({"Ref": "AWS::NoValue"}, NO_VALUE),
    ({"a": {"Ref": "AWS::NoValue"}, "b": 1}, {"b": 1}),
    ([{"Ref": "AWS::NoValue"}, 1], [1]),
    ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:queue"),
    ({"Fn::GetAtt": "Queue.Arn"}, "arn:queue"),
    ({"Fn::GetAtt": ["Queue", "Url.Host"]}, "h"),
    ({"Fn::GetAtt": ["Queue", {"Fn::Sub": "Arn"}]}, "arn:queue"),
    (
        {"Fn::Sub": "x-${Name}-${AWS::Region}-${Queue}-${Queue.Arn}"},
        "x-todo-us-west-2-queue-1-arn:queue",
    ),
    ({"Fn::Sub": "${Queue.Url.Host}"}, "h"),
    ({"Fn::Sub": "${!Name} ${Name}"}, "${Name} todo"),
    ({"Fn::Sub": "$ {Name} $${Name}"}, "$ {Name} $todo"),
    ({"Fn::Sub": ["${A}/${Name}", {"A": {"Ref": "Count"}}]}, "3/todo"),
    ({"Fn::Sub": ["${Name}", {"Name": "own"}]}, "own"),
    ({"Fn::Sub": ["${N}${B}", {"N": 7, "B": True}]}, "7true"),
    ({"Fn::Join": ["-", ["a", {"Ref": "Name"}, 1]]}, "a-todo-1"),
    ({"Fn::Join": [",", {"Ref": "Zones"}]}, "a,b"),
    ({"Fn::Join": ["", []]}, ""),
    ({"Fn::Join": [".", {"Fn::Split": ["-", {"Ref": "AWS::Region"}]}]}, "us.west.2"),
    ({"Fn::Select": [1, ["a", "b"]]}, "b"),
    ({"Fn::Select": ["0", {"Fn::GetAtt": ["Queue", "Hosts"]}]}, "h1"),
    ({"Fn::Split": ["|", "a|b||c"]}, ["a", "b", "", "c"]),
    ({"Fn::If": ["Yes", {"Ref": "Name"}, {"Ref": "Nowhere"}]}, "todo"),
    ({"Fn::If": ["No", 1, 2]}, 2),
    ({"Fn::If": ["Both", 1, 2]}, 2),
    ({"Fn::If": ["Either", 1, 2]}, 1),
    ({"a": {"Fn::If": ["No", 1, {"Ref": "AWS::NoValue"}]}}, {}),
    ({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "small"]}, 128),
    ({"Fn::FindInMap": ["Sizes", "us-west-2", "list"]}, ["x", "y"]),
    # Only a mapping of one key is a function; policies have members of these names, too.
    ({"Ref": "Name", "other": 1}, {"Ref": "Name", "other": 1}),
    ({"Condition": {"Bool": {"x": "y"}}}, {"Condition": {"Bool": {"x": "y"}}}),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[str(v) for v, _ in VALUES])
def test_value(value: Any, expected: Any) -> None:
    under_test = resolver()

    assert under_test.resolve(value) == expected
    assert under_test.faults == []


FAULTS: list[tuple[Any, str]] = [
    ({"Ref": "Nowhere"}, "there is no parameter or resource 'Nowhere'"),
    ({"Ref": "Skipped"}, "Skipped is not created, its condition is false"),
    ({"Ref": ["Name"]}, "Ref takes a name"),
    ({"Ref": "AWS::Nothing"}, "there is no parameter or resource 'AWS::Nothing'"),
    ({"Fn::GetAtt": ["Queue", "Nope"]}, "has no attribute 'Nope'; known are Arn, Hosts"),
    ({"Fn::GetAtt": ["Nowhere", "Arn"]}, "there is no parameter or resource 'Nowhere'"),
    ({"Fn::GetAtt": ["Name", "Arn"]}, "Name is a parameter and has no attributes"),
    ({"Fn::GetAtt": "Queue"}, "takes a logical id and an attribute"),
    ({"Fn::Sub": "${Nowhere}"}, "there is no parameter or resource 'Nowhere'"),
    ({"Fn::Sub": "${Zones}"}, "['a', 'b'] is not a string"),
    ({"Fn::Sub": "${AWS::NoValue}"}, "there is no value"),
    ({"Fn::Sub": 7}, "takes a string, or a list of a string and a mapping"),
    ({"Fn::Join": ["-", "text"]}, "'text' is not a list"),
    ({"Fn::Join": ["-"]}, "takes a list of a delimiter and a list"),
    ({"Fn::Join": ["-", [["nested"]]]}, "['nested'] is not a string"),
    ({"Fn::Select": [2, ["a", "b"]]}, "there is no element 2 in a list of 2"),
    ({"Fn::Select": [-1, ["a"]]}, "there is no element -1"),
    ({"Fn::Select": [0]}, "takes a list of an index and a list"),
    ({"Fn::Split": ["", "a"]}, "takes a list of a delimiter and a string"),
    ({"Fn::If": ["Unheard", 1, 2]}, "there is no condition 'Unheard'"),
    ({"Fn::If": ["Yes", 1]}, "takes a list of a condition and two values"),
    ({"Fn::If": ["Loop", 1, 2]}, "conditions refer to each other: Loop -> Pool -> Loop"),
    ({"Fn::If": ["Dangling", 1, 2]}, "there is no parameter or resource 'Nowhere'"),
    ({"Fn::If": ["Bad", 1, 2]}, "is not a condition"),
    ({"Fn::If": ["One", 1, 2]}, "takes two to ten conditions"),
    ({"Fn::If": ["Un", 1, 2]}, "takes one condition"),
    ({"Fn::If": ["Eq", 1, 2]}, "takes two values"),
    ({"Fn::FindInMap": ["Sizes", "mars", "small"]}, "there is no 'mars' in the mappings"),
    ({"Fn::FindInMap": ["Sizes"]}, "takes a map and two keys"),
    ({"Fn::ImportValue": "x"}, "Fn::ImportValue is refused"),
    ({"Fn::Cidr": ["10.0.0.0/8", 1]}, "Fn::Cidr is not known here"),
    ({"Fn::Sub": "a", "Fn::Join": []}, "Fn::Sub stands beside 1 other keys"),
]


@pytest.mark.parametrize(("value", "expected"), FAULTS, ids=[str(v) for v, _ in FAULTS])
def test_a_fault_is_told_once_with_its_path(value: Any, expected: str) -> None:
    under_test = resolver(
        Bad="yes",
        One={"Fn::And": [{"Condition": "Yes"}]},
        Un={"Fn::Not": {"Condition": "Yes"}},
        Eq={"Fn::Equals": ["a"]},
    )

    under_test.resolve({"Outer": [{"Fn::Join": ["", [value]]}]}, ("Resources", None))

    (fault,) = under_test.faults
    assert expected in fault
    assert fault.startswith(("web: Resources.Outer.0.Fn::Join", "web: Conditions."))


def test_what_is_built_on_a_fault_is_not_reported_again() -> None:
    under_test = resolver()

    resolved = under_test.resolve({"a": {"Ref": "Faulty"}, "b": {"Fn::GetAtt": ["Faulty", "Arn"]}})

    assert resolved == {"a": BROKEN, "b": BROKEN}
    assert under_test.faults == []


def test_all_faults_of_a_value_come_out() -> None:
    under_test = resolver()

    under_test.resolve({"a": {"Ref": "X"}, "b": [{"Fn::Sub": "${Y}${Z}"}]})

    assert [fault.split("'")[1] for fault in under_test.faults] == ["X", "Y", "Z"]


plain = st.text(st.characters(blacklist_characters="${}", blacklist_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(plain, st.sampled_from(["Name", "Count", "AWS::Region", "Queue.Arn"]))))
def test_sub_is_join_of_its_parts(pieces: list[tuple[str, str]]) -> None:
    text = "".join(f"{before}${{{name}}}" for before, name in pieces)
    parts: list[Any] = []
    for before, name in pieces:
        value = {"Fn::GetAtt": name.split(".")} if "." in name else {"Ref": name}
        parts += [before, value]

    under_test = resolver()

    assert under_test.resolve({"Fn::Sub": text}) == under_test.resolve({"Fn::Join": ["", parts]})


@given(plain)
def test_sub_without_variables_changes_nothing(text: str) -> None:
    assert resolver().resolve({"Fn::Sub": text}) == text


@given(st.text("ab${}!.", max_size=12))
def test_sub_never_fails_on_odd_text(text: str) -> None:
    under_test = resolver()

    resolved = under_test.resolve({"Fn::Sub": text})

    assert isinstance(resolved, str) != bool(under_test.faults)


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1))
def test_split_undoes_join(items: list[str]) -> None:
    joined = {"Fn::Join": ["|", items]}

    assert resolver().resolve({"Fn::Split": ["|", joined]}) == items


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("xyz", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_a_value_without_functions_stays_as_it_is(value: Any) -> None:
    assert resolver().resolve(value) == value
