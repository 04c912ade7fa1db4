"""Trace headers and the X-Ray daemon's UDP port.

Sampling is Lambda's own and fixed: the first request each second and 5 % of the others (AWS docs
"Visualize Lambda function invocations using X-Ray"); a decision that came in with the request wins.

Downside: segments are counted, not stored or drawn.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Any, cast


class TraceSampler:
    """Decides for one function which invocations are traced."""

    def __init__(self, rng: random.Random, *, everything: bool = False) -> None:
        self._rng = rng
        self._everything = everything
        self._second = -1

    def header(self, now: float, incoming: str | None, *, active: bool) -> str:
        """The value of Lambda-Runtime-Trace-Id. `now` in epoch seconds; `incoming` from the caller.

        The root of `incoming` is kept and so is its decision, if it carries one.
        """
        given = dict(p.strip().partition("=")[::2] for p in (incoming or "").split(";"))
        root = given.get("Root") or new_root(now)
        parent = secrets.token_hex(8)
        sampled = given.get("Sampled")
        if sampled not in ("0", "1"):
            sampled = "1" if active and self._sample(now) else "0"
        return f"Root={root};Parent={parent};Sampled={sampled}"

    def _sample(self, now: float) -> bool:
        if self._everything:
            return True
        if int(now) != self._second:
            self._second = int(now)
            return True
        return self._rng.random() < 0.05


def new_root(now: float) -> str:
    """A new trace id: version, epoch seconds in hex, 96 random bits."""
    return f"1-{int(now):08x}-{secrets.token_hex(12)}"


class XRayDaemon(asyncio.DatagramProtocol):
    """Takes segment documents like the X-Ray daemon and counts them."""

    def __init__(self) -> None:
        self.segments = 0
        self.bytes = 0
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def start(cls, host: str, port: int) -> XRayDaemon:
        """Listen on UDP. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        _, daemon = await loop.create_datagram_endpoint(cls, local_addr=(host, port))
        return daemon

    @property
    def address(self) -> str:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop: by shape

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        del addr
        self.segments += 1
        self.bytes += len(data)
