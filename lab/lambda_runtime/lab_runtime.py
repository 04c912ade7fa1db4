"""Stands in each function's process for the resolver of the VPC that the function is in.

`python -m lab_runtime HANDLER` replaces what `socket.getaddrinfo` calls and goes on as `python -m
awslambdaric HANDLER`. This file is linked into the runtime folder, so it imports nothing but the
standard library, and of that, until a name is looked up, only what is in C: a function that needs
no network must not pay for it in its cold start. `vpc.py` writes `vpc.json` beside it:

    {"zone": "example.test", "name_server": ["127.0.0.1", 1053], "ports": {"443": 8443},
     "hosts": {"name.of.a.proxy": {"3306": ["127.0.1.10", 3316]}}}

Names of `hosts` have that address and port; names in `zone` are asked of `name_server`, and a port
in `ports` becomes the lab's; everything else goes to the system. Addresses pass untouched.

Downside: no cache (the resolver of a VPC keeps an answer for its TTL); IPv4 only; the last of a
chain of CNAMEs has to be in the same answer; `gethostbyname` is not patched.
"""

from __future__ import annotations

import _socket
import os
import sys

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing import Any

_SYSTEM = _socket.getaddrinfo
_ATTEMPTS, _TIMEOUT = 2, 2.0
"""Per look-up, and seconds per attempt (resolv.conf's defaults are 2 and 5)."""
_NXDOMAIN = 3
_settings: dict[str, Any] = {}


def getaddrinfo(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """As `_socket.getaddrinfo`, which `socket.getaddrinfo` calls. Raises socket.gaierror."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not isinstance(name, str) or _is_address(name):
        return _SYSTEM(host, port, family, type, proto, flags)
    addresses, new_port = resolve(name.lower().rstrip("."), port, _read_settings())
    if addresses is None:
        return _SYSTEM(host, port, family, type, proto, flags)
    if family not in (0, _socket.AF_INET):
        raise _socket.gaierror(_socket.EAI_NONAME, "Name or service not known")
    return [
        entry
        for address in addresses
        for entry in _SYSTEM(address, new_port, family, type, proto, flags)
    ]


def resolve(
    name: str, port: bytes | str | int | None, settings: dict[str, Any]
) -> tuple[list[str] | None, bytes | str | int | None]:
    """Addresses and port for `name`, lower case without final dot; (None, port) for the system's
    resolver. Raises socket.gaierror."""
    table = settings["hosts"].get(name)
    if table:
        address, new_port = table.get(str(port)) or (next(iter(table.values()))[0], port)
        return [address], new_port
    zone = settings["zone"]
    if not zone or (name != zone and not name.endswith("." + zone)):
        return None, port
    return _ask(name, tuple(settings["name_server"])), settings["ports"].get(str(port), port)


def _is_address(name: str) -> bool:
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, name)
        except (OSError, ValueError):
            continue
        return True
    return False


def _read_settings() -> dict[str, Any]:
    if not _settings:
        import json

        folder = os.path.dirname(os.path.abspath(__file__))
        with open(os.path.join(folder, "vpc.json")) as file:
            _settings.update(json.load(file))
    return _settings


def _ask(name: str, server: tuple[str, int]) -> list[str]:
    """The A records of `name`, from `server`, by UDP."""
    import socket

    query = _query(name)
    for _ in range(_ATTEMPTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.settimeout(_TIMEOUT)
            try:
                channel.connect(server)
                channel.send(query)
                answer = channel.recv(4096)
            except OSError:
                continue
        addresses = _addresses(query, answer)
        if addresses is not None:
            return addresses
    raise _socket.gaierror(_socket.EAI_AGAIN, "Temporary failure in name resolution")


def _query(name: str) -> bytes:
    """A recursive query for A records (RFC 1035, section 4)."""
    try:
        labels = [label.encode("ascii") for label in name.split(".")]
    except UnicodeEncodeError:
        labels = [b""]
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise _socket.gaierror(_socket.EAI_NONAME, "Name or service not known")
    question = b"".join(bytes((len(label),)) + label for label in labels) + b"\0\0\1\0\1"
    return os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + question


def _addresses(query: bytes, answer: bytes) -> list[str] | None:
    """The addresses in `answer`; None if it says nothing. Raises gaierror if there are none."""
    if len(answer) < len(query) or answer[:2] != query[:2] or not answer[2] & 0x80:
        return None
    code = answer[3] & 15
    if code == _NXDOMAIN:
        raise _socket.gaierror(_socket.EAI_NONAME, "Name or service not known")
    if code:
        return None
    try:
        found = _records(answer, len(query), int.from_bytes(answer[6:8], "big"))
    except IndexError:
        return None
    if not found:
        raise _socket.gaierror(_socket.EAI_NODATA, "No address associated with hostname")
    return found


def _records(answer: bytes, at: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        while 0 < answer[at] < 192:  # labels; a pointer ends the name
            at += 1 + answer[at]
        at += 2 if answer[at] else 1
        length = int.from_bytes(answer[at + 8 : at + 10], "big")
        if answer[at : at + 4] == b"\0\1\0\1" and length == 4:
            found.append(_socket.inet_ntoa(answer[at + 10 : at + 14]))
        at += 10 + length
    return found


if __name__ == "__main__":
    _socket.getaddrinfo = getaddrinfo
    from awslambdaric.__main__ import main

    main(sys.argv)
