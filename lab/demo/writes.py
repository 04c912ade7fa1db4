"""Were acknowledged writes lost? Asked of `loadtest.ledger` after each move of a database."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.lifecycle import Lab
from lab.process import wait_until

CHECK_SECONDS = 120.0
SNAPSHOT_SECONDS = 60.0
LEDGER = "ledger.jsonl"


@dataclass
class Checks:
    """The checks of one run. Their results are files in the reports folder, in order."""

    lab: Lab
    reports: Path
    results: list[Path] = field(default_factory=list)

    def forget(self) -> None:
        """Remove what an earlier run left."""
        for path in (*self.reports.glob("ledger*.jsonl"), *self.reports.glob("check-*.json*")):
            path.unlink()

    def check(self, label: str) -> str:
        """Compare the ledger with the database that serves now; what was found, in a line.

        What an earlier check has found is not reported again. A finding is no error here:
        `loadtest.evidence` judges. Raises LabError when the check itself failed.
        """
        result = self.reports / f"check-{len(self.results) + 1}.json"
        known = (option for earlier in self.results for option in ("--known", str(earlier)))
        found = self._ledger("--json", str(result), "--event", label, *known)
        self.results.append(result)
        return found

    def confirm(self) -> str:
        """Compare the losses of the last check with what the lost volume has; in a line."""
        last = str(self.results[-1])
        differences = str(self.lost_volume())
        return self._ledger("--confirm", last, "--differences", differences, "--json", last)

    def _ledger(self, *options: str) -> str:
        done = self._run(
            "loadtest.ledger", "--ledger", str(self.reports / "ledger*.jsonl"), *options
        )
        if done.returncode not in (0, 1):
            raise LabError(f"the ledger could not be checked:\n{done.stderr}{done.stdout}")
        return done.stdout.splitlines()[0]

    def lost_volume(self) -> Path:
        """The rows in which the snapshot of the lost volume differs from what serves now.

        The snapshot is kept as soon as the lost region is back; it is waited for.
        """
        path = self.reports / "check-differences.jsonl"
        said = ""

        def read() -> bool:
            nonlocal said
            done = self._run("lab.aurora.lost", "--lab-dir", str(self.lab.paths.root))
            said = done.stderr
            if done.returncode == 0:
                path.write_text(done.stdout)
            return done.returncode == 0

        if not wait_until(read, SNAPSHOT_SECONDS, 0.5):
            raise LabError(f"the lost volume could not be read:\n{said}")
        return path

    def _run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.lab.environment(),
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
            check=False,
        )
