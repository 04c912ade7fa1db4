"""Safety rules: the truth table, the transaction, gates, waits, overrides, and what follows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.arc.rules import (
    Accepted,
    ClusterConfig,
    ClusterState,
    Entry,
    InvalidEntries,
    NotFound,
    RoutingControl,
    RuleConfig,
    RuleFailed,
    RuleType,
    SafetyRule,
    TooManyEntries,
    decide,
)

PANEL = "arn:aws:route53-recovery-control::111122223333:controlpanel/" + "0f" * 16
REFUSAL = r"Cannot modify control state for \[.+\] due to failed rule evaluation .+"
SETTINGS = settings(max_examples=60, deadline=None)


def arn(name: str) -> str:
    """A control's ARN from a short name such as "p"."""
    return f"{PANEL}/routingcontrol/{name}"


def rule(
    name: str,
    watched: str,
    kind: str = "ATLEAST",
    threshold: int = 1,
    *,
    inverted: bool = False,
    gating: str = "",
    wait: int = 0,
) -> SafetyRule:
    """A rule over controls with one-letter names: `rule("min", "ps")`."""
    return SafetyRule(
        f"{PANEL}/safetyrule/{name}",
        name,
        PANEL,
        tuple(arn(c) for c in watched),
        tuple(arn(c) for c in gating),
        RuleConfig(RuleType(kind), threshold, inverted),
        wait,
    )


def config(*rules: SafetyRule, controls: str = "psxyg") -> ClusterConfig:
    known = {arn(c): RoutingControl(arn(c), c, PANEL) for c in controls}
    return ClusterConfig("arn:cluster", {PANEL: "service1"}, known, rules)


def state(on: str, changed_at: dict[str, float] | None = None) -> ClusterState:
    stamps = {arn(c): at for c, at in (changed_at or {}).items()}
    return ClusterState(frozenset(arn(c) for c in on), stamps)


def entries(wanted: str) -> list[Entry]:
    """`"p- s+"` is: p Off, s On."""
    return [Entry(arn(word[0]), word[1] == "+") for word in wanted.split()]


def ask(
    rules: Iterable[SafetyRule],
    before: ClusterState,
    wanted: str,
    overrides: Iterable[SafetyRule] = (),
    now: float = 100.0,
) -> str:
    """The names of the controls that are On afterwards, or the name of the rule that refused."""
    result = decide(config(*rules), before, entries(wanted), [rule.arn for rule in overrides], now)
    if isinstance(result, RuleFailed):
        assert re.fullmatch(REFUSAL, result.message)
        assert result.rule.arn in result.message
        assert result.rule.name in result.message
        return "refused by " + result.rule.name
    assert isinstance(result, Accepted), result
    return "".join(sorted(each.rsplit("/", 1)[1] for each in result.state.on))


MIN = rule("min", "ps")
MAX = rule("max", "ps", threshold=2, inverted=True)


@pytest.mark.semantics(20)
@pytest.mark.parametrize(
    ("kind", "threshold", "inverted", "expected"),
    [
        ("AND", 0, False, "FFFT"),
        ("AND", 0, True, "TTTF"),
        ("AND", 9, False, "FFFT"),
        ("OR", 0, False, "FTTT"),
        ("OR", 0, True, "TFFF"),
        ("OR", 9, False, "FTTT"),
        ("ATLEAST", 2, False, "FFTT"),
        ("ATLEAST", 2, True, "TTFF"),
        ("ATLEAST", 0, False, "TTTT"),
        ("ATLEAST", 0, True, "FFFF"),
    ],
)
def test_truth_table_of_three_controls(
    kind: str, threshold: int, inverted: bool, expected: str
) -> None:
    rule_config = RuleConfig(RuleType(kind), threshold, inverted)
    seen = "".join("T" if rule_config.holds(on, 3) else "F" for on in range(4))
    assert seen == expected


@pytest.mark.parametrize(
    ("rules", "on", "wanted", "expected"),
    [
        pytest.param([MIN], "p", "p-", "refused by min", marks=pytest.mark.semantics(21)),
        pytest.param([MIN], "p", "p- s+", "s", marks=pytest.mark.semantics(21)),
        pytest.param([MIN], "p", "s+ p-", "s", marks=pytest.mark.semantics(21)),
        pytest.param([MIN], "", "p+", "p", marks=pytest.mark.semantics(22)),
        pytest.param([MIN], "", "p-", "refused by min", id="no-op that leaves the rule false"),
        pytest.param([MAX], "p", "s+", "refused by max", marks=pytest.mark.semantics(24)),
        pytest.param([MAX], "p", "p- s+", "s", marks=pytest.mark.semantics(24)),
        pytest.param([MAX], "p", "p-", "", marks=pytest.mark.semantics(24)),
        pytest.param([MIN], "", "x+", "x", marks=pytest.mark.semantics(32)),
        pytest.param([MIN], "p", "x+ p-", "refused by min", marks=pytest.mark.semantics(27)),
        pytest.param([MIN, MAX], "p", "p+", "p", id="no-op"),
    ],
)
def test_assertion_is_judged_on_the_state_after(
    rules: list[SafetyRule], on: str, wanted: str, expected: str
) -> None:
    assert ask(rules, state(on), wanted) == expected


@pytest.mark.semantics(23)
def test_atleast_two_of_three_needs_a_batch_to_start() -> None:
    two = rule("two", "psx", threshold=2)
    assert ask([two], state(""), "p+") == "refused by two"
    assert ask([two], state(""), "p+ s+") == "ps"


GATE = rule("gate", "ps", "OR", 0, gating="g")


@pytest.mark.parametrize(
    ("on", "wanted", "expected"),
    [
        pytest.param("p", "p-", "refused by gate", marks=pytest.mark.semantics(25)),
        pytest.param("p", "s+", "refused by gate", marks=pytest.mark.semantics(25)),
        pytest.param("gp", "s+", "gps", marks=pytest.mark.semantics(25)),
        pytest.param("gp", "p-", "g", marks=pytest.mark.semantics(25)),
        pytest.param("", "g+", "g", marks=pytest.mark.semantics(25)),
        pytest.param("gp", "g-", "p", marks=pytest.mark.semantics(25)),
        pytest.param("p", "g+ p-", "refused by gate", marks=pytest.mark.semantics(26)),
        pytest.param("gp", "p- g-", "refused by gate", marks=pytest.mark.semantics(26)),
    ],
)
def test_gate_has_to_be_open_before_and_after(on: str, wanted: str, expected: str) -> None:
    assert ask([GATE], state(on), wanted) == expected


@pytest.mark.semantics(25)
def test_inverted_gate_locks_while_on() -> None:
    """A database switch that may move only while the region's switch is Off."""
    lock = rule("lock", "x", "OR", 0, gating="p", inverted=True)
    assert ask([lock], state("p"), "x+") == "refused by lock"
    assert ask([lock], state(""), "x+") == "x"


@pytest.mark.semantics(27)
def test_refusal_leaves_state_and_stamps_alone() -> None:
    before = state("p", {"p": 5.0})
    result = decide(config(MIN, GATE), before, entries("g+ p-"), [], 100.0)
    assert isinstance(result, RuleFailed)
    assert before == state("p", {"p": 5.0})


@pytest.mark.semantics(28)
def test_refusal_has_the_documented_text_and_names_one_rule() -> None:
    both = rule("all", "ps", "AND", 0)
    result = decide(config(MIN, both), state("p"), entries("x+ p-"), [], 100.0)
    assert isinstance(result, RuleFailed)
    assert result.message.startswith(
        f"Cannot modify control state for [{'0f' * 16} p] due to failed rule evaluation "
        f"{'0f' * 16}min ({PANEL}/safetyrule/min, min: "
    )
    assert both.arn not in result.message


@pytest.mark.semantics(29)
def test_overrides_reveal_the_next_rule_and_hold_for_one_request() -> None:
    both = rule("all", "ps", "AND", 0)
    assert ask([MIN, both], state("p"), "p-") == "refused by min"
    assert ask([MIN, both], state("p"), "p-", [MIN]) == "refused by all"
    assert ask([MIN, both], state("p"), "p-", [MIN, both]) == ""
    assert ask([MIN, both], state("p"), "p-") == "refused by min"


WAIT = rule("wait", "ps", wait=5000)


@pytest.mark.semantics(31)
@pytest.mark.parametrize(
    ("now", "expected"), [(100.0, "refused by wait"), (104.9, "refused by wait"), (105.0, "s")]
)
def test_wait_period_counts_from_the_last_change_of_a_watched_control(
    now: float, expected: str
) -> None:
    before = state("p", {"p": 90.0, "s": 100.0, "x": 104.0})
    assert ask([WAIT], before, "p- s+", now=now) == expected


@pytest.mark.semantics(31)
def test_wait_period_zero_never_waits_and_an_override_skips_it() -> None:
    before = state("p", {"p": 100.0})
    assert ask([MIN], before, "p- s+", now=100.0) == "s"
    assert ask([WAIT], before, "p- s+", [WAIT], now=100.0) == "s"
    assert ask([WAIT], before, "x+", now=100.0) == "px"


@pytest.mark.semantics(31)
def test_wait_period_of_a_gate_is_that_of_its_targets() -> None:
    gate = rule("gate", "p", "OR", 0, gating="g", wait=5000)
    assert ask([gate], state("g", {"g": 100.0}), "p+", now=101.0) == "gp"
    assert ask([gate], state("gp", {"p": 100.0}), "p-", now=101.0) == "refused by gate"


@pytest.mark.semantics(31)
def test_a_write_that_changes_nothing_does_not_restart_the_wait() -> None:
    result = decide(config(WAIT), state("p", {"p": 90.0}), entries("p+ s-"), [], 100.0)
    assert isinstance(result, Accepted)
    assert result.changed == ()
    assert result.state == state("p", {"p": 90.0})


def test_only_real_changes_are_stamped() -> None:
    result = decide(config(), state("p", {"p": 90.0}), entries("p+ s+"), [], 100.0)
    assert isinstance(result, Accepted)
    assert result.changed == (Entry(arn("s"), True),)
    assert result.state == state("ps", {"p": 90.0, "s": 100.0})


@pytest.mark.semantics(17)
def test_more_than_ten_entries_are_too_many() -> None:
    letters = "abcdefghijk"
    cluster = config(controls=letters)
    eleven = [Entry(arn(c), True) for c in letters]
    assert decide(cluster, state(""), eleven, [], 0.0) == TooManyEntries(11)
    assert isinstance(decide(cluster, state(""), eleven[:10], [], 0.0), Accepted)


def test_a_control_twice_in_one_batch_is_invalid() -> None:
    result = decide(config(), state(""), entries("p+ s+ p-"), [], 0.0)
    assert isinstance(result, InvalidEntries)
    assert [name for name, _ in result.fields] == [
        "UpdateRoutingControlStateEntries.2.RoutingControlArn"
    ]


@pytest.mark.semantics(5)
def test_unknown_controls_and_rules_are_not_found() -> None:
    unknown = decide(config(), state(""), entries("p+ z+"), [], 0.0)
    assert unknown == NotFound("RoutingControl", arn("z"))
    no_rule = decide(config(MIN), state(""), entries("p+"), ["arn:other"], 0.0)
    assert no_rule == NotFound("SafetyRule", "arn:other")


# --- properties --------------------------------------------------------------------------------


def batches(controls: str) -> st.SearchStrategy[list[str]]:
    words = st.dictionaries(st.sampled_from(controls), st.sampled_from("+-"), min_size=1).map(
        lambda wanted: " ".join(c + sign for c, sign in wanted.items())
    )
    return st.lists(words, min_size=1, max_size=12)


@SETTINGS
@given(batches("ps"))
def test_the_two_standard_rules_keep_exactly_one_on(sequence: list[str]) -> None:
    """Once one is On, no sequence of batches reaches both Off or both On."""
    current = state("p")
    for wanted in sequence:
        result = decide(config(MIN, MAX), current, entries(wanted), [], 0.0)
        if isinstance(result, Accepted):
            current = result.state
        assert len(current.on) == 1


@SETTINGS
@given(batches("psxy"))
def test_interlocks_keep_traffic_with_the_database(sequence: list[str]) -> None:
    """Traffic p, s and database x, y of regions A, B: the two never part."""
    rules = [
        MIN,
        MAX,
        rule("db-min", "xy"),
        rule("db-max", "xy", threshold=2, inverted=True),
        rule("traffic A, database B", "py", threshold=2, inverted=True),
        rule("traffic B, database A", "sx", threshold=2, inverted=True),
    ]
    current = state("px")
    for wanted in [*sequence, "p- s+ x- y+"]:
        result = decide(config(*rules), current, entries(wanted), [], 0.0)
        if isinstance(result, Accepted):
            current = result.state
        assert current.on in (state("px").on, state("sy").on)


def rules_strategy() -> st.SearchStrategy[list[SafetyRule]]:
    some = st.lists(st.sampled_from("psxyg"), min_size=1, max_size=4, unique=True).map("".join)
    one = st.builds(
        lambda watched, kind, threshold, inverted, gating, wait: (
            watched,
            kind,
            threshold,
            inverted,
            gating,
            wait,
        ),
        some,
        st.sampled_from(list(RuleType)),
        st.integers(0, 4),
        st.booleans(),
        st.one_of(st.just(""), some),
        st.sampled_from([0, 5000]),
    )
    return st.lists(one, max_size=4).map(
        lambda drawn: [
            rule(f"r{i}", w, k, t, inverted=inv, gating=g, wait=wait)
            for i, (w, k, t, inv, g, wait) in enumerate(drawn)
        ]
    )


@SETTINGS
@given(
    rules_strategy(),
    st.lists(st.sampled_from("psxyg"), unique=True).map("".join),
    batches("psxyg"),
    st.dictionaries(st.sampled_from("psxyg"), st.floats(90, 100)),
)
def test_the_order_of_rules_does_not_decide_whether_a_batch_is_accepted(
    rules: list[SafetyRule], on: str, sequence: list[str], stamps: dict[str, float]
) -> None:
    before = state(on, stamps)
    outcomes = {
        ask(order, before, sequence[0]).startswith("refused")
        for order in itertools.islice(itertools.permutations(rules), 24)
    }
    assert len(outcomes) == 1


@SETTINGS
@given(
    rules_strategy(),
    st.lists(st.sampled_from("psxyg"), unique=True).map("".join),
    batches("psxyg"),
)
def test_overriding_rule_after_rule_always_ends_in_acceptance(
    rules: list[SafetyRule], on: str, sequence: list[str]
) -> None:
    """The documented way out: add the named rule, ask again, at most once per rule."""
    overridden: list[SafetyRule] = []
    for _ in range(len(rules) + 1):
        outcome = ask(rules, state(on), sequence[0], overridden)
        if not outcome.startswith("refused"):
            return
        overridden += [r for r in rules if outcome == "refused by " + r.name]
    pytest.fail("still refused with every rule overridden")
