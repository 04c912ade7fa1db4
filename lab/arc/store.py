"""The switch positions on disk, so that they survive a restart.

A change is written to a second file, forced to disk and renamed over the first before it is
answered: after a crash the file holds either the state before or the state after, whole. Downside:
the two fsyncs happen in the caller's thread, a few milliseconds per accepted change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lab.arc.errors import ArcStateError
from lab.arc.rules import ClusterState

_VERSION = 1
_LATEST = 1e12
"""Seconds; a later stamp is none of ours."""


class StateStore:
    """One JSON file: {"version": 1, "controls": {arn: {"state": "On", "changed_at": seconds}}}."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, known: Collection[str], now: float) -> ClusterState | None:
        """The saved state of the known controls, or None when nothing was ever saved.

        Controls that the deployment no longer has are dropped; new ones are Off. Stamps from the
        future (the clock was set back) become `now`: no wait period lasts longer than asked.
        Raises ArcStateError when the file is unreadable or is not what `save` writes.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ArcStateError(
                f"cannot read the switch positions in {self._path}: {error}"
            ) from error
        try:
            controls = _controls(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ArcStateError(
                f"the switch positions in {self._path} are corrupt ({error}); restore the file, or "
                "remove it to start with every routing control Off"
            ) from error
        kept = {arn: entry for arn, entry in controls.items() if arn in known}
        return ClusterState(
            frozenset(arn for arn, (is_on, _) in kept.items() if is_on),
            {arn: min(at, now) for arn, (_, at) in kept.items() if at is not None},
        )

    def save(self, controls: Collection[str], state: ClusterState) -> None:
        """Write the state of these controls, durably. Raises ArcStateError: nothing changed."""
        document = {
            "version": _VERSION,
            "controls": {
                arn: {
                    "state": "On" if arn in state.on else "Off",
                    "changed_at": state.changed_at.get(arn),
                }
                for arn in controls
            },
        }
        temporary = self._path.with_name(self._path.name + ".tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise ArcStateError(
                f"cannot save the switch positions in {self._path}: {error}"
            ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _controls(document: Any) -> dict[str, tuple[bool, float | None]]:
    """ARN -> (is On, changed at). Raises ValueError."""
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise ValueError(f"not a document of version {_VERSION}")
    entries = document.get("controls")
    if not isinstance(entries, dict):
        raise ValueError("no controls")
    controls = {}
    for arn, entry in entries.items():
        if not isinstance(entry, dict) or entry.get("state") not in ("On", "Off"):
            raise ValueError(f"{arn} is neither On nor Off")
        stamp = entry.get("changed_at")
        if not _is_stamp(stamp):
            raise ValueError(f"{arn} has no usable changed_at")
        controls[arn] = (entry["state"] == "On", stamp)
    return controls


def _is_stamp(value: object) -> bool:
    """None, or seconds: neither true, nor infinite, nor not a number."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _LATEST
