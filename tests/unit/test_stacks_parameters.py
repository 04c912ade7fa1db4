"""Parameters are checked as CloudFormation checks them."""

from __future__ import annotations

from typing import Any

import pytest

from lab.stacks.parameters import resolve_parameters


def resolve(declared: dict[str, Any], **given: str) -> tuple[dict[str, Any], list[str]]:
    faults: list[str] = []
    return resolve_parameters("web", declared, given, faults), faults


@pytest.mark.parametrize(
    ("declaration", "given", "expected"),
    [
        ({"Type": "String"}, {"P": "x"}, "x"),
        ({"Type": "String", "Default": "d"}, {}, "d"),
        ({"Type": "String", "Default": "d"}, {"P": ""}, ""),
        ({"Type": "Number", "Default": 5000}, {}, "5000"),
        ({"Type": "Number", "MinValue": 0, "MaxValue": 9}, {"P": "9"}, "9"),
        ({"Type": "CommaDelimitedList"}, {"P": "a, b,c"}, ["a", "b", "c"]),
        ({"Type": "CommaDelimitedList"}, {"P": ""}, []),
        ({"Type": "List<Number>"}, {"P": "1,2"}, ["1", "2"]),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, {"P": "subnet-1"}, ["subnet-1"]),
        ({"Type": "AWS::Route53::HostedZone::Id"}, {"P": "Z1"}, "Z1"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, {"P": "abc"}, "abc"),
        ({"Type": "Number", "AllowedValues": [1, 3]}, {"P": "3"}, "3"),
    ],
)
def test_value(declaration: dict[str, Any], given: dict[str, str], expected: Any) -> None:
    assert resolve({"P": declaration}, **given) == ({"P": expected}, [])


@pytest.mark.parametrize(
    ("declaration", "value", "expected"),
    [
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, "abc1", "does not match [a-z]+"),
        ({"Type": "String", "AllowedValues": ["a", "b"]}, "c", "is none of a, b"),
        ({"Type": "String", "MinLength": 2}, "c", "is shorter than 2"),
        ({"Type": "String", "MaxLength": "2"}, "ccc", "is longer than 2"),
        ({"Type": "Number"}, "five", "is not a number"),
        ({"Type": "Number", "MinValue": 1}, "0", "is below 1"),
        ({"Type": "Number", "MaxValue": 1}, "2", "is above 1"),
        ({"Type": "List<Number>"}, "1,x", "'x' is not a number"),
        ({"Type": "CommaDelimitedList", "AllowedPattern": "[a-z]"}, "a,1", "does not match"),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "/x", "needs a look-up in SSM"),
    ],
)
def test_refused(declaration: dict[str, Any], value: str, expected: str) -> None:
    (fault,) = resolve({"P": declaration}, P=value)[1]

    assert fault.startswith("web: parameter P")
    assert expected in fault


def test_the_hint_of_the_template_is_shown() -> None:
    declaration = {"Type": "String", "AllowedPattern": "[a-z]", "ConstraintDescription": "One."}

    assert resolve({"P": declaration}, P="1")[1] == [
        "web: parameter P: '1' does not match [a-z] (One.)"
    ]


def test_missing_and_unknown_ones_come_out_together() -> None:
    values, faults = resolve({"A": {"Type": "String"}, "B": {"Type": "String"}}, A="1", C="2")

    assert values == {"A": "1"}
    assert faults == [
        "web: parameter C is not declared by the template",
        "web: parameter B has neither a value nor a default",
    ]
