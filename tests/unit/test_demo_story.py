"""The demo's commands: what is refused is tried again, and what was carried out is recorded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lab.demo.story import NotStarted, Story
from lab.errors import LabError

REFUSAL = NotStarted("failover move todo ended with 4:\n  - todo: the fence cannot be read")


class Screen:
    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)


class Commands(Story):
    """`failover` ends in these ways, one after the other."""

    ends: list[LabError | None]

    def _command(self, *arguments: str) -> None:
        self.asked_at = time.time()
        end = self.ends.pop(0)
        if end is not None:
            raise end


def story(folder: Path, ends: list[LabError | None], patience: float = 10.0) -> Commands:
    lab: Any = None
    made = Commands(lab, folder / "topology.toml", folder, 1, 1, patience, pause=0.0)
    made.ends = ends
    return made


def move(told: Commands, screen: Screen) -> None:
    shown: Any = screen
    told._move(shown, ["todo"], "us-east-1", "us-west-2")


def test_a_refused_move_is_tried_again_and_recorded_once(tmp_path: Path) -> None:
    told, screen = story(tmp_path, [REFUSAL, REFUSAL, None]), Screen()

    move(told, screen)

    (recorded,) = told.moves
    assert (recorded["kind"], recorded["services"]) == ("planned_move", ["todo"])
    assert recorded["commanded_at"] <= told.asked_at <= recorded["ended_at"]
    assert told.ends == []
    assert screen.events == [
        "failover move todo --to us-west-2",
        "refused, trying again: todo: the fence cannot be read",
        "refused, trying again: todo: the fence cannot be read",
        "failover move done",
    ]


def test_what_is_still_refused_after_a_while_ends_the_demo(tmp_path: Path) -> None:
    told = story(tmp_path, [REFUSAL, None], patience=-1.0)

    with pytest.raises(NotStarted, match="the fence cannot be read"):
        move(told, Screen())

    assert told.moves == []


def test_any_other_failure_is_not_tried_again(tmp_path: Path) -> None:
    told = story(tmp_path, [LabError("failover move todo ended with 5"), None])

    with pytest.raises(LabError, match="ended with 5"):
        move(told, Screen())

    assert (told.moves, told.ends) == ([], [None])
