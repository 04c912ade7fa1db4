"""The control socket: asked by a command, and by an event loop that must never wait for it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lab import control
from lab.errors import LabError


async def handler(command: str, arguments: dict[str, Any]) -> Any:
    if command == "refuse":
        raise LabError("not today")
    return {command: arguments}


async def test_an_event_loop_gets_the_answer_or_the_refusal(tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = await control.serve(str(path), handler)
    try:
        assert await control.ask(path, "say", word="x") == {"say": {"word": "x"}}
        with pytest.raises(LabError, match="not today"):
            await control.ask(path, "refuse")
        called = await asyncio.to_thread(control.call, path, "say", word="y")
        assert called == {"say": {"word": "y"}}
    finally:
        server.close()


@pytest.mark.semantics(76)
def test_a_process_that_is_dead_or_stopped_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Stopped: the kernel takes connections until its queue is full, and nobody answers."""
    path = tmp_path / "s"

    async def ask() -> None:
        async with asyncio.timeout(0.05):
            await control.ask(path, "say")

    async def often() -> None:
        with pytest.raises(FileNotFoundError):
            await ask()
        with socket.socket(socket.AF_UNIX) as stopped:
            stopped.bind(str(path))
            stopped.listen(1)
            for _ in range(5):
                with pytest.raises((TimeoutError, OSError)):
                    await ask()
        with pytest.raises(ConnectionRefusedError):
            await ask()

    uvloop.run(often())
