"""`infra`: shows what a deployment of `topology.toml` consists of.

    infra stacks [--json]        the steps in order, with regions and parameters
    infra template NAME          a template as it is deployed, for example `gateway`

Both read files only and need no AWS account. Exit codes: 0 done, 2 the command line, the topology
or a template cannot be used.

Downside: parameters that come from outputs are shown as references; their values exist only once
something has been deployed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.stacks import OutputRef, Stack, Step, Text, Value, stack_list
from infra.templates import TEMPLATES, TemplateFileError, template
from infra.topology import TopologyError, load_topology


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        topology = load_topology(options.topology)
        if options.command == "stacks":
            steps = stack_list(topology)
            text = _json(steps) if options.json else _table(steps)
        else:
            rendered = template(f"{options.name.removesuffix('.yaml')}.yaml", topology)
            text = json.dumps(rendered, indent=2)
    except (TopologyError, TemplateFileError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(text + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="infra", description="What a deployment consists of.")
    parser.add_argument("--topology", type=Path, default=Path("topology.toml"), metavar="FILE")
    commands = parser.add_subparsers(dest="command", required=True)
    stacks = commands.add_parser("stacks", help="the steps in order, with their parameters")
    stacks.add_argument("--json", action="store_true", help="for a program to read")
    shown = commands.add_parser("template", help="a template as it is deployed, as JSON")
    names = ", ".join(sorted(path.stem for path in TEMPLATES.glob("*.yaml")))
    shown.add_argument("name", help=f"one of {names}")
    return parser


def _table(steps: Sequence[Step]) -> str:
    lines = []
    for number, step in enumerate(steps, 1):
        what = step.template if isinstance(step, Stack) else f"chalice deploy, {step.folder}"
        lines.append(f"{number:4}  {step.name}  ({step.region}: {what})")
        lines += [f"        {name} = {_text(value)}" for name, value in step.values.items()]
        if step.needs:
            lines.append(f"        after {', '.join(step.needs)}")
    return "\n".join(lines)


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, Text):
        return "".join(map(_text, value.parts))
    return f"<{value.stack}.{value.output}>" if isinstance(value, OutputRef) else value


def _json(steps: Sequence[Step]) -> str:
    return json.dumps([_plain(step) for step in steps], indent=2)


def _plain(step: Step) -> dict[str, Any]:
    what = {"template": step.template} if isinstance(step, Stack) else {"folder": step.folder}
    return {
        "name": step.name,
        "region": step.region,
        **what,
        "values": {name: _text(value) for name, value in step.values.items()},
        "needs": list(step.needs),
    }
