"""Ids, conditions and the fence: the pure rules of the todo service."""

import itertools
import re
import sys
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2] / "services/todo/testing"))
from todo_testing import ENVIRONMENT, load

errors, fence, model, environment = load(
    "chalicelib.errors", "chalicelib.fence", "chalicelib.model", "chalicelib.settings"
)
EAST, WEST = "us-east-1", "us-west-2"
NOW = datetime(2026, 11, 20, 12)
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@given(st.lists(st.integers(0, 2**48 * 1_000_000 - 10**9), min_size=1, max_size=20))
def test_ids_grow_whatever_the_clock_does(times):
    clock = iter(times)
    make = model.uuid7_maker(lambda: next(clock))
    ids = [make() for _ in times]
    assert ids == sorted(set(ids))
    assert all(UUID7.fullmatch(one) for one in ids)


def test_an_id_holds_its_milliseconds():
    make = model.uuid7_maker(lambda: 0x0193_2C07_8C1E * 1_000_000, lambda _: b"\xff" * 8)
    assert make() == "01932c07-8c1e-7000-bfff-ffffffffffff"
    assert make() == "01932c07-8c1e-7001-bfff-ffffffffffff"


def test_ids_of_one_moment_differ():
    make = model.uuid7_maker(lambda: 1)
    assert len({make() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    ("match", "none_match", "revision", "holds"),
    [
        (None, None, "r", True),
        (None, None, None, True),
        ({"r"}, None, "r", True),
        ({"r"}, None, "s", False),
        ({"r", "s"}, None, "s", True),
        ({"r"}, None, None, False),
        ({"*"}, None, "r", True),
        ({"*"}, None, None, False),
        (set(), None, "r", False),
        (None, {"*"}, None, True),
        (None, {"*"}, "r", False),
        (None, {"r"}, "r", False),
        (None, {"r"}, "s", True),
        ({"r"}, {"r"}, "r", False),
    ],
)
def test_conditions(match, none_match, revision, holds):
    freeze = lambda values: None if values is None else frozenset(values)  # noqa: E731
    assert model.Condition(freeze(match), freeze(none_match)).holds(revision) is holds


OPEN_1 = fence.Fence(1, EAST, fence.OPEN)
DRAINED_1 = fence.Fence(1, EAST, fence.DRAINING)


@pytest.mark.parametrize(
    ("current", "wanted", "region", "refusal"),
    [
        (OPEN_1, OPEN_1, EAST, ""),
        (OPEN_1, DRAINED_1, EAST, ""),
        (DRAINED_1, DRAINED_1, EAST, ""),
        (DRAINED_1, OPEN_1, EAST, "greater epoch"),
        (DRAINED_1, fence.Fence(2, WEST, fence.OPEN), WEST, ""),
        (OPEN_1, fence.Fence(2, WEST, fence.OPEN), WEST, ""),
        (OPEN_1, fence.Fence(9, WEST, fence.OPEN), WEST, ""),
        (DRAINED_1, fence.Fence(2, EAST, fence.OPEN), EAST, ""),
        (OPEN_1, fence.Fence(2, WEST, fence.OPEN), EAST, "only us-west-2 itself"),
        (OPEN_1, fence.Fence(1, WEST, fence.OPEN), WEST, "belongs to us-east-1"),
        (OPEN_1, fence.Fence(1, WEST, fence.DRAINING), WEST, "belongs to us-east-1"),
        (OPEN_1, fence.Fence(2, EAST, fence.DRAINING), EAST, "keeps the epoch"),
        (fence.Fence(2, WEST, fence.OPEN), OPEN_1, EAST, "is over"),
        (fence.Fence(2, WEST, fence.OPEN), DRAINED_1, EAST, "is over"),
    ],
)
def test_what_the_fence_allows(current, wanted, region, refusal):
    if refusal:
        with pytest.raises(errors.FenceConflict, match=refusal):
            fence.agreed(current, wanted, region, NOW)
    else:
        stored = fence.agreed(current, wanted, region, NOW)
        assert (stored.epoch, stored.active_region, stored.state) == (
            wanted.epoch,
            wanted.active_region,
            wanted.state,
        )
        assert stored.updated_at == NOW


FENCES = st.builds(
    fence.Fence,
    st.integers(1, 5),
    st.sampled_from([EAST, WEST]),
    st.sampled_from([fence.OPEN, fence.DRAINING]),
)


@settings(max_examples=200)
@given(st.lists(st.tuples(FENCES, st.sampled_from([EAST, WEST])), max_size=12))
def test_the_fence_only_moves_forward(requests):
    """Whatever comes in whatever order: no epoch has two regions, none is opened again."""
    history = [OPEN_1]
    for wanted, region in requests:
        try:
            history.append(fence.agreed(history[-1], wanted, region, NOW))
        except errors.FenceConflict:
            continue
    order = [(one.epoch, one.state == fence.DRAINING) for one in history]
    assert order == sorted(order)
    for _, same in itertools.groupby(history, key=lambda one: one.epoch):
        assert len({one.active_region for one in same}) == 1


def test_settings_name_every_fault():
    with pytest.raises(environment.SettingsError) as refused:
        environment.Settings.from_environment(
            {"USER_POOL_ARNS": "[nonsense", "TENANTS": '{"c": "A B"}', "DB_PORT": "0x1"}
        )
    for name in (
        "USER_POOL_ARNS",
        "TENANTS",
        "DB_PORT",
        "DB_WRITER_HOST",
        "DB_READER_HOST",
        "DB_NAME",
        "SECRET_ARN",
    ):
        assert name in str(refused.value)


def test_pools_may_be_a_list_or_separated_by_commas():
    east = "arn:aws:cognito-idp:us-east-1:111122223333:userpool/us-east-1_A"
    west = "arn:aws:cognito-idp:us-west-2:111122223333:userpool/us-west-2_B"
    for text in (f'["{east}", "{west}"]', f"{east}, {west}"):
        made = environment.Settings.from_environment({**ENVIRONMENT, "USER_POOL_ARNS": text})
        assert made.user_pool_arns == (east, west)
