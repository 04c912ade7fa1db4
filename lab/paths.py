"""Where one lab keeps its files: everything below one directory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

_MAX_SOCKET_PATH = 100
"""A Unix socket's path may have 107 bytes on Linux (unix(7)); some are kept for the name."""


@dataclass(frozen=True, slots=True)
class LabPaths:
    root: Path

    @property
    def lab_json(self) -> Path:
        return self.root / "lab.json"

    @property
    def env(self) -> Path:
        return self.root / "env"

    @property
    def recovery(self) -> Path:
        return self.root / "recovery.json"

    @property
    def tokens(self) -> Path:
        return self.root / "tokens.json"

    @property
    def ca(self) -> Path:
        return self.root / "ca.pem"

    @property
    def deployment(self) -> Path:
        return self.root / "deployment.json"

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def build(self) -> Path:
        """Packaged services: shared by all labs of a checkout, and kept by `lab down`."""
        return Path(os.environ.get("LAB_BUILD_DIR", ".lab/build"))

    def certificate(self, region: str) -> Path:
        return self.root / "certs" / f"{region}.pem"

    def socket(self, process: str) -> Path:
        """Control socket of a process; in the temporary folder if this path is too long for one."""
        path = self.run / f"{process}.sock"
        if len(str(path)) < _MAX_SOCKET_PATH:
            return path
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"lab-{os.getuid()}-{digest}.sock"
