"""What the functions of a region resolve: the lab's side of `lab_runtime.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BOOTSTRAP = "lab_runtime"
"""The module that a function's process is started with."""


@dataclass(frozen=True, slots=True)
class VpcNames:
    """How names are resolved inside the VPC. The default leaves everything to the system."""

    zone: str = ""
    """Names in this DNS zone are asked of `name_server` (address, port), by UDP."""
    name_server: tuple[str, int] = ("127.0.0.1", 53)
    ports: Mapping[int, int] = field(default_factory=dict)
    """For names in the zone: a port, and what it is in the lab."""
    hosts: Mapping[str, Mapping[int, tuple[str, int]]] = field(default_factory=dict)
    """Further names: port -> address and port in the lab."""


def install(runtime_dir: Path, names: VpcNames) -> None:
    """Put the bootstrap and its settings into the folder of runtime modules. Safe to repeat."""
    origin = Path(__file__).with_name(f"{BOOTSTRAP}.py").resolve()
    link = runtime_dir / origin.name
    if not link.is_symlink() or link.readlink() != origin:
        link.unlink(missing_ok=True)
        link.symlink_to(origin)
    document = {
        "zone": names.zone.lower().rstrip("."),
        "name_server": list(names.name_server),
        "ports": {str(port): to for port, to in names.ports.items()},
        "hosts": {
            name.lower().rstrip("."): {str(port): list(to) for port, to in table.items()}
            for name, table in names.hosts.items()
        },
    }
    path = runtime_dir / "vpc.json"
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(document))
    draft.replace(path)
