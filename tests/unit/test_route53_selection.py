"""Which records answer: exact shares from the pure core, and draws with a fixed seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.route53.reading import read_record
from lab.route53.records import Record, Zone, make_zone
from lab.route53.selection import Conditions, Decision, Target, decide, pick

EAST = "d-0000000001.execute-api.us-east-1.amazonaws.com"
WEST = "d-0000000002.execute-api.us-west-2.amazonaws.com"
TARGETS = {EAST: Target("127.0.1.10", "us-east-1"), WEST: Target("127.0.2.10", "us-west-2")}
NAME = "app.example.test"


def record(
    value: str = "", name: str = NAME, kind: str = "A", ttl: int = 60, **properties: Any
) -> Record:
    body: dict[str, Any] = {"Name": name, "Type": kind, **properties}
    if "AliasTarget" not in body:
        body |= {"TTL": str(ttl), "ResourceRecords": [value]}
    return read_record(body)


def alias(target: str, evaluate: bool, zone: str = "Z1") -> dict[str, Any]:
    return {"DNSName": target, "HostedZoneId": zone, "EvaluateTargetHealth": evaluate}


def zone_of(*records: Record) -> Zone:
    return make_zone("Z1", "example.test", ("ns-1.awsdns-01.org",), records)


def conditions(
    checks: dict[str, bool] | None = None, down: frozenset[str] = frozenset(), ttl: int = 60
) -> Conditions:
    return Conditions(checks or {}, TARGETS, down, ttl)


def ask(zone: Zone, known: Conditions, name: str = NAME, kind: str = "A") -> Decision:
    return decide((zone,), name, kind, known)


def shares(decision: Decision) -> dict[str, Fraction]:
    """Share of each first value of the last record set."""
    found: dict[str, Fraction] = {}
    for outcome in decision.outcomes:
        value = outcome.rrsets[-1].values[0]
        found[value] = found.get(value, Fraction(0)) + outcome.share
    return found


def failover_pair(evaluate: bool, *, secondary_check: bool = True) -> Zone:
    pair = []
    for side, target in (("PRIMARY", EAST), ("SECONDARY", WEST)):
        check = {"HealthCheckId": side} if side == "PRIMARY" or secondary_check else {}
        pair.append(
            record(
                SetIdentifier=side,
                Failover=side,
                AliasTarget=alias(target, evaluate, "ZAPI"),
                **check,
            )
        )
    return zone_of(*pair)


@pytest.mark.semantics(38)
@pytest.mark.parametrize("evaluate", [True, False])
@pytest.mark.parametrize(
    ("primary", "secondary", "answer"),
    [
        (True, False, "127.0.1.10"),
        (True, True, "127.0.1.10"),
        (False, True, "127.0.2.10"),
        (False, False, "127.0.1.10"),
    ],
)
def test_failover_table(primary: bool, secondary: bool, answer: str, evaluate: bool) -> None:
    known = conditions({"PRIMARY": primary, "SECONDARY": secondary})
    assert shares(ask(failover_pair(evaluate), known)) == {answer: 1}


@pytest.mark.semantics(39)
def test_secondary_without_check_takes_over() -> None:
    zone = failover_pair(True, secondary_check=False)
    assert shares(ask(zone, conditions({"PRIMARY": False}))) == {"127.0.2.10": 1}
    assert shares(ask(zone, conditions({"PRIMARY": True}))) == {"127.0.1.10": 1}


@pytest.mark.semantics(40, 41)
@pytest.mark.parametrize(
    ("evaluate", "check", "service_up", "answer"),
    [
        (False, True, False, "127.0.1.10"),
        (False, False, True, "127.0.2.10"),
        (True, True, True, "127.0.1.10"),
        (True, True, False, "127.0.2.10"),
        (True, False, True, "127.0.2.10"),
    ],
)
def test_api_gateway_target_health(
    evaluate: bool, check: bool, service_up: bool, answer: str
) -> None:
    down = frozenset() if service_up else frozenset({"us-east-1"})
    known = conditions({"PRIMARY": check, "SECONDARY": True}, down)
    assert shares(ask(failover_pair(evaluate), known)) == {answer: 1}


CELLS = ("127.0.3.1", "127.0.3.2", "127.0.3.3")
MAINTENANCE = "127.0.4.1"


def cellular_zone(evaluate: bool) -> Zone:
    """A maintenance record behind three weighted cells, each with a switch of its own."""
    cells = [
        record(
            name="cells.example.test",
            SetIdentifier=letter,
            Weight=1,
            HealthCheckId=letter,
            AliasTarget=alias(f"cell-{letter}.example.test", True),
        )
        for letter in "abc"
    ]
    leaves = [
        record(address, name=f"cell-{letter}.example.test")
        for letter, address in zip("abc", CELLS, strict=True)
    ]
    return zone_of(
        *cells,
        *leaves,
        record(
            SetIdentifier="region",
            Failover="PRIMARY",
            HealthCheckId="region",
            AliasTarget=alias("cells.example.test", evaluate),
        ),
        record(
            SetIdentifier="maintenance",
            Failover="SECONDARY",
            AliasTarget=alias("maintenance.example.test", False),
        ),
        record(MAINTENANCE, name="maintenance.example.test", ttl=5),
    )


@pytest.mark.semantics(42)
@pytest.mark.parametrize(
    ("switches", "evaluated", "not_evaluated"),
    [
        ("1111", CELLS, CELLS),
        ("1011", CELLS[1:], CELLS[1:]),
        ("1000", (MAINTENANCE,), CELLS),
        ("0111", (MAINTENANCE,), (MAINTENANCE,)),
    ],
)
@pytest.mark.parametrize("evaluate", [True, False])
def test_nested_tree(
    switches: str, evaluated: tuple[str, ...], not_evaluated: tuple[str, ...], evaluate: bool
) -> None:
    names = ("region", "a", "b", "c")
    known = conditions({n: s == "1" for n, s in zip(names, switches, strict=True)})
    expected = evaluated if evaluate else not_evaluated
    decision = ask(cellular_zone(evaluate), known)
    assert shares(decision) == {value: Fraction(1, len(expected)) for value in expected}
    # The group of cells, asked for by its own name, fails open.
    own = shares(ask(cellular_zone(evaluate), known, "cells.example.test"))
    healthy = [c for c, s in zip(CELLS, switches[1:], strict=True) if s == "1"] or list(CELLS)
    assert own == {value: Fraction(1, len(healthy)) for value in healthy}


def weighted_zone(weights: tuple[int, ...]) -> Zone:
    return zone_of(
        *(
            record(f"127.0.5.{i}", SetIdentifier=str(i), Weight=str(w), HealthCheckId=str(i))
            for i, w in enumerate(weights)
        )
    )


@pytest.mark.semantics(43)
@pytest.mark.parametrize(
    ("weights", "healthy", "expected"),
    [
        ((10, 20, 20, 0), "1111", (0.2, 0.4, 0.4, 0)),
        ((10, 20, 20, 0), "1101", (1 / 3, 2 / 3, 0, 0)),
        ((10, 20, 20, 0), "0001", (0, 0, 0, 1)),
        ((10, 20, 20, 0), "0000", (0.2, 0.4, 0.4, 0)),
        ((0, 0, 0), "111", (1 / 3, 1 / 3, 1 / 3)),
        ((0, 0, 0), "110", (0.5, 0.5, 0)),
        ((1, 1), "10", (1, 0)),
    ],
)
def test_weights(weights: tuple[int, ...], healthy: str, expected: tuple[float, ...]) -> None:
    known = conditions({str(i): state == "1" for i, state in enumerate(healthy)})
    decision = ask(weighted_zone(weights), known)
    exact = shares(decision)
    rng, draws = random.Random(43), 4000
    drawn = Counter(pick(decision.outcomes, rng).rrsets[0].values[0] for _ in range(draws))
    for i, share in enumerate(expected):
        assert float(exact.get(f"127.0.5.{i}", 0)) == pytest.approx(share)
        assert drawn[f"127.0.5.{i}"] / draws == pytest.approx(share, abs=0.03)
        assert share or f"127.0.5.{i}" not in drawn


@pytest.mark.semantics(44)
@pytest.mark.parametrize(
    ("healthy", "count"), [(set(range(12)), 8), ({1, 2, 3}, 3), (set(), 8), ({7}, 1)]
)
def test_multivalue(healthy: set[int], count: int) -> None:
    zone = zone_of(
        *(
            record(
                f"127.0.6.{i}", SetIdentifier=str(i), MultiValueAnswer=True, HealthCheckId=str(i)
            )
            for i in range(12)
        )
    )
    known = conditions({str(i): i in healthy for i in range(12)})
    outcomes = ask(zone, known).outcomes
    rng = random.Random(44)
    answers = [pick(outcomes, rng).rrsets[0].values for _ in range(200)]
    assert {len(values) for values in answers} == {count}
    seen = {value for values in answers for value in values}
    assert seen == {f"127.0.6.{i}" for i in healthy or range(12)}
    assert all(len(set(values)) == len(values) for values in answers)


def test_multivalue_text_is_cut_to_eight_too() -> None:
    zone = zone_of(
        *(
            record(f'"v{i}"', kind="TXT", SetIdentifier=str(i), MultiValueAnswer=True)
            for i in range(9)
        )
    )
    outcomes = ask(zone, conditions(), kind="TXT").outcomes
    assert len(pick(outcomes, random.Random(1)).rrsets[0].values) == 8


@pytest.mark.semantics(48)
def test_alias_is_invisible_and_has_its_targets_ttl() -> None:
    (outcome,) = ask(failover_pair(True), conditions({"PRIMARY": True, "SECONDARY": True})).outcomes
    (rrset,) = outcome.rrsets
    assert (rrset.name, rrset.type, rrset.ttl) == (NAME, "A", 60)
    known = conditions(dict.fromkeys(("region", "a", "b", "c"), False))
    (outcome,) = ask(cellular_zone(True), known).outcomes
    assert (outcome.rrsets[0].name, outcome.rrsets[0].ttl) == (NAME, 5)


@pytest.mark.semantics(48)
def test_an_alias_is_answered_as_aaaa_with_the_address_in_its_mapped_form() -> None:
    zone = zone_of(record(kind="AAAA", AliasTarget=alias(EAST, False, "ZAPI")))
    (outcome,) = ask(zone, conditions(), kind="AAAA").outcomes
    assert outcome.status == "answer"
    (rrset,) = outcome.rrsets
    assert (rrset.type, rrset.ttl) == ("AAAA", 60)
    assert rrset.values == (f"::ffff:{TARGETS[EAST].address}",)


@pytest.mark.semantics(48)
def test_an_ipv6_address_has_no_a_record() -> None:
    zone = zone_of(record(AliasTarget=alias(EAST, False, "ZAPI")))
    known = replace(conditions(), targets={EAST: Target("::1", "us-east-1")})
    (outcome,) = ask(zone, known).outcomes
    assert outcome.status == "nodata"


def test_all_unhealthy_above_does_not_hide_health_below() -> None:
    """Fail-open at the upper level still takes the healthy leaf at the lower one."""
    zone = zone_of(
        record(
            SetIdentifier="1",
            Failover="PRIMARY",
            HealthCheckId="off",
            AliasTarget=alias("leaf.example.test", True),
        ),
        record(
            "127.0.7.9", name="leaf.example.test", SetIdentifier="x", Weight=1, HealthCheckId="off"
        ),
        record(
            "127.0.7.1", name="leaf.example.test", SetIdentifier="y", Weight=1, HealthCheckId="on"
        ),
    )
    assert shares(ask(zone, conditions({"off": False, "on": True}))) == {"127.0.7.1": 1}


@pytest.mark.semantics(49)
def test_no_such_name_no_such_type_and_empty_nonterminal() -> None:
    zone = zone_of(record("127.0.1.1", name="a.b.example.test"))
    known = conditions()
    assert ask(zone, known, "x.example.test").outcomes[0].status == "nxdomain"
    assert ask(zone, known, "b.example.test").outcomes[0].status == "nodata"
    assert ask(zone, known, "a.b.example.test", "TXT").outcomes[0].status == "nodata"
    assert ask(zone, known, "example.org").zone is None


def test_wildcards() -> None:
    zone = zone_of(
        record("127.0.1.1", name="\\052.w.example.test"),
        record("127.0.1.2", name="known.w.example.test"),
    )
    known = conditions()
    for name, status in (
        ("any.w.example.test", "answer"),
        ("two.labels.w.example.test", "answer"),
        ("below.known.w.example.test", "nxdomain"),
        ("other.example.test", "nxdomain"),
        ("w.example.test", "nodata"),
    ):
        assert ask(zone, known, name).outcomes[0].status == status, name
    assert ask(zone, known, "any.w.example.test").outcomes[0].rrsets[0].name == (
        "any.w.example.test"
    )


def test_cname_is_followed_inside_the_zone_only() -> None:
    zone = zone_of(
        record("App.example.test.", name="www.example.test", kind="CNAME"),
        record("elsewhere.example.org.", name="out.example.test", kind="CNAME"),
        record("gone.example.test", name="dead.example.test", kind="CNAME"),
        record("loop2.example.test", name="loop1.example.test", kind="CNAME"),
        record("loop1.example.test", name="loop2.example.test", kind="CNAME"),
        record("127.0.1.1"),
    )
    known = conditions()
    (www,) = ask(zone, known, "www.example.test").outcomes
    assert [(r.name, r.type) for r in www.rrsets] == [("www.example.test", "CNAME"), (NAME, "A")]
    (out,) = ask(zone, known, "out.example.test").outcomes
    assert [r.type for r in out.rrsets] == ["CNAME"]
    (dead,) = ask(zone, known, "dead.example.test").outcomes
    assert dead.status == "nxdomain"
    (loop,) = ask(zone, known, "loop1.example.test").outcomes
    assert {r.type for r in loop.rrsets} == {"CNAME"}
    (itself,) = ask(zone, known, "www.example.test", "CNAME").outcomes
    assert len(itself.rrsets) == 1


def test_delegation_is_a_referral() -> None:
    zone = zone_of(record("ns.child.example.test.", name="child.example.test", kind="NS"))
    known = conditions()
    assert ask(zone, known, "a.b.child.example.test").referral == "child.example.test"
    assert ask(zone, known, "child.example.test", "NS").referral == "child.example.test"
    assert ask(zone, known, "child.example.test", "DS").referral is None
    assert ask(zone, known, "example.test", "NS").referral is None


def test_most_specific_zone_answers() -> None:
    outer = make_zone(
        "Z1", "example.test", ("ns-1.a",), [record("127.0.1.1", name="x.in.example.test")]
    )
    inner = make_zone("Z2", "in.example.test", ("ns-2.a",), [])
    assert decide((outer, inner), "x.in.example.test", "A", conditions()).zone is inner
    assert decide((outer, inner), "inx.example.test", "A", conditions()).zone is outer


_policies = st.sampled_from(["failover", "weighted", "multivalue"])


@settings(max_examples=80, deadline=None)
@given(
    policy=_policies,
    health=st.lists(st.booleans(), min_size=2, max_size=6),
    weights=st.lists(st.integers(0, 255), min_size=6, max_size=6),
    evaluate=st.booleans(),
)
def test_any_group_answers_and_prefers_health(
    policy: str, health: list[bool], weights: list[int], evaluate: bool
) -> None:
    """Never an empty answer, shares add up, and no unhealthy value while a healthy one exists."""
    if policy == "failover":
        health = health[:2]
    extra: list[dict[str, Any]] = {
        "failover": [{"Failover": "PRIMARY"}, {"Failover": "SECONDARY"}],
        "weighted": [{"Weight": weight} for weight in weights],
        "multivalue": [{"MultiValueAnswer": "true"}] * 6,
    }[policy]
    zone = zone_of(
        *(
            record(
                f"127.0.8.{i}",
                "in.example.test",
                SetIdentifier=str(i),
                HealthCheckId=str(i),
                **extra[i],
            )
            for i in range(len(health))
        ),
        record(AliasTarget=alias("in.example.test", evaluate)),
    )
    known = conditions({str(i): state for i, state in enumerate(health)})
    outcomes = ask(zone, known).outcomes
    assert sum(outcome.share for outcome in outcomes) == 1
    assert outcomes == tuple(
        outcome
        for outcome in outcomes
        if outcome.rrsets and outcome.rrsets[0].name == NAME and outcome.rrsets[0].values
    )
    answered = {value for outcome in outcomes for value in outcome.rrsets[0].values}
    good = {f"127.0.8.{i}" for i, state in enumerate(health) if state}
    assert not good or answered <= good
