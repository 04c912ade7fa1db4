"""What the lab's processes have in common: commands from the control socket, and the event log."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError


class EventLog:
    """Appends events to `<lab dir>/events.jsonl`, one JSON object a line."""

    def __init__(self, path: Path, process: str) -> None:
        self._file = path.open("a", buffering=1)
        self._process = process

    def __call__(self, event: Mapping[str, Any]) -> None:
        line = {"at": round(time.time(), 3), "process": self._process, **event}
        self._file.write(json.dumps(line) + "\n")


async def dispatch(
    handlers: Mapping[str, Callable[..., Any]], command: str, arguments: dict[str, Any]
) -> Any:
    """The result of one command; `ready` is known to every process. Raises LabError."""
    if command == "ready":
        return True
    if command not in handlers:
        raise LabError(f"unknown control command {command!r}")
    result = handlers[command](**arguments)
    return await result if inspect.isawaitable(result) else result
