"""Entry point: `python -m lab.demo`. See the package's docstring."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from infra.topology import TopologyError
from lab.demo.story import Story, Unsettled
from lab.errors import LabError
from lab.lifecycle import Lab
from lab.paths import LabPaths


def main() -> int:
    """Run the demo; 0 when the verdict is `passed`, else 1 (or 130 after Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="demo", description="two regions, two moves, a verdict")
    parser.add_argument("--topology", type=Path, default=Path("topology.toml"))
    parser.add_argument("--lab-dir", type=Path, default=Path(".lab/demo"))
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    parser.add_argument("--rate", type=int, default=100, help="requests per second, all services")
    parser.add_argument(
        "--samples", type=int, default=100, help="answers per service to see in each quiet phase"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    lab = Lab(LabPaths(arguments.lab_dir), lambda line: print_line(f"lab: {line}"))
    story = Story(lab, arguments.topology, arguments.reports, arguments.rate, arguments.samples)
    try:
        return story.run()
    except KeyboardInterrupt:
        print_line("demo: interrupted; everything that it had started was stopped")
        return 130
    except (LabError, TopologyError, Unsettled) as error:
        print_line(f"demo: {error}")
        return 1


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
