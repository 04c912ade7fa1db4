"""Modules of the standard library that are imported at each cold start and used almost never.

`postpone` registers each with `importlib.util.LazyLoader` before anything imports it: the module
exists at once and is executed when something first asks it for an attribute. That saves 3 ms of
the 16 ms that Chalice and the X-Ray SDK take to import, and changes nothing else: who uses a
module gets all of it.

Downside: a module missing from this list costs its import again, silently; `bench/cold_start.py`
would show it. An error in such a module would appear at its first use, not at its import.
"""

from __future__ import annotations

import importlib.util
import sys

POSTPONED = (
    "ast",  # inspect: only to read defaults of built-in functions
    "datetime",  # chalice: only to show the time of an authorizer's context
    "ipaddress",  # urllib.parse: only for hosts in brackets
    "selectors",  # socket: only for sendfile
)


def postpone(names: tuple[str, ...] = POSTPONED) -> None:
    """Makes those modules of `names` lazy that are not imported yet."""
    for name in names:
        spec = importlib.util.find_spec(name) if name not in sys.modules else None
        if spec is None or spec.loader is None:
            continue
        loader = importlib.util.LazyLoader(spec.loader)
        spec.loader = loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
