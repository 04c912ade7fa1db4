"""Switch positions on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.arc.errors import ArcStateError
from lab.arc.rules import ClusterState
from lab.arc.store import StateStore

STATE = ClusterState(frozenset({"arn:a"}), {"arn:a": 12.5})


@pytest.mark.semantics(18)
def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "arc.json")
    assert store.load(["arn:a"], 20.0) is None
    store.save(["arn:a", "arn:b"], STATE)
    assert StateStore(tmp_path / "arc.json").load(["arn:a", "arn:b"], 20.0) == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["arc.json"]


def test_controls_that_are_gone_are_dropped_and_stamps_never_lie_ahead(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "arc.json")
    store.save(["arn:a", "arn:b"], STATE)
    assert store.load(["arn:b"], 20.0) == ClusterState()
    assert store.load(["arn:a"], 10.0) == ClusterState(frozenset({"arn:a"}), {"arn:a": 10.0})


def entry(**members: object) -> str:
    return json.dumps({"version": 1, "controls": {"arn:a": members}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"version": 2, "controls": {}}',
        '{"version": 1}',
        '{"version": 1, "controls": {"arn:a": "On"}}',
        entry(state="ON", changed_at=1),
        entry(state="On", changed_at="yesterday"),
        entry(state="On", changed_at=True),
        entry(state="On", changed_at=float("nan")),
        entry(state="On", changed_at=10**400),
    ],
    ids=range(12),
)
def test_a_corrupt_file_is_a_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "arc.json"
    path.write_text(text)
    with pytest.raises(ArcStateError, match="corrupt") as caught:
        StateStore(path).load(["arn:a"], 20.0)
    assert str(path) in str(caught.value)


def test_other_troubles_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "binary"):
        with pytest.raises(ArcStateError, match="cannot read"):
            StateStore(path).load([], 20.0)
    with pytest.raises(ArcStateError, match="cannot save"):
        StateStore(tmp_path / "missing" / "arc.json").save([], STATE)
