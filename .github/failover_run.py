"""Runs `failover` for the workflow of the same name, with what a person typed into its form.

    failover_run.py plan     --dry-run; what it says goes into the run's summary
    failover_run.py act      --yes; the same, and the journal stays in ./journal

What was typed comes in environment variables and leaves as arguments of a process, never through a
shell. All faults of it are told at once, and nothing is run then (exit 2). `plan` ends well also
when `failover` refuses (the approver reads why), because a service whose fence the plan has no
secret for must not keep a region from being left; `act` ends with `failover`'s own exit code.

Downside: whoever approves has to read the summary; nothing compares the plan with what is done
some minutes later. `failover` looks at everything again before it acts.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

COMMANDS = ("status", "move", "evacuate", "back")
LOSING = ("move", "evacuate")
USAGE = 2
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,30}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
RECOVERY = Path("recovery.json")
FAILOVER = Path(sys.executable).with_name("failover")


def faults(form: Mapping[str, str]) -> Iterator[str]:
    """Everything that is wrong with the form."""
    command = form.get("COMMAND", "")
    if command not in COMMANDS:
        yield f"command {command!r}: one of {', '.join(COMMANDS)}"
        return
    services, target, leave = _services(form), form.get("TARGET", ""), form.get("LEAVE", "")
    yield from (f"{each!r} is no name of a service" for each in services if not _is_service(each))
    yield from (
        f"{name}: {value!r} is no region"
        for name, value in (("target", target), ("leave", leave))
        if value and not _REGION.fullmatch(value)
    )
    if command in ("move", "back"):
        yield from (() if services else (f"{command} needs services",))
        yield from (() if target else (f"{command} needs a target",))
        yield from ((f"{command} takes no region to leave",) if leave else ())
    if command == "evacuate":
        yield from (() if leave else ("evacuate needs the region to leave",))
        yield from (("evacuate takes no services and no target",) if services or target else ())
    if _loses_data(form) and command not in LOSING:
        yield f"{command} never loses data; leave allow-data-loss out"
    if command != "status" and form.get("CONFIRM", "").strip() != confirmation(form):
        yield f"confirm: type {confirmation(form)!r}"


def _is_service(text: str) -> bool:
    return _SERVICE.fullmatch(text) is not None


def _services(form: Mapping[str, str]) -> list[str]:
    return form.get("SERVICES", "").split()


def _loses_data(form: Mapping[str, str]) -> bool:
    return form.get("ALLOW_DATA_LOSS", "") == "true"


def confirmation(form: Mapping[str, str]) -> str:
    """What has to be typed again."""
    region = form.get("LEAVE", "") if form["COMMAND"] == "evacuate" else form.get("TARGET", "")
    return f"{form['COMMAND']} {region}" + (" and lose data" if _loses_data(form) else "")


def arguments(form: Mapping[str, str], mode: str) -> list[str]:
    """Of `failover`, for a form without faults."""
    command, target = form["COMMAND"], form.get("TARGET", "")
    words = [command, *_services(form)]
    if command == "evacuate":
        words.append(form["LEAVE"])
    elif command != "status":
        words += ["--to", target]
    if _loses_data(form):
        words.append("--allow-data-loss")
    words += ["--recovery-file", str(RECOVERY)]
    if command != "status":
        words.append("--dry-run" if mode == "plan" else "--yes")
    return words


def secrets(form: Mapping[str, str], regions: Sequence[str]) -> dict[str, str]:
    """The operator's client secrets under the names that `failover` reads: a form of GitHub's does
    not know the regions' names."""
    return {
        f"OPERATOR_CLIENT_SECRET_{region.replace('-', '_').upper()}": secret
        for region, role in zip(regions, ("PRIMARY", "STANDBY"), strict=False)
        if (secret := form.get(f"OPERATOR_CLIENT_SECRET_{role}", ""))
    }


def outcome(mode: str, code: int) -> int:
    """The exit code of the step."""
    return code if mode == "act" or code == USAGE else 0


def main(argv: Sequence[str], form: Mapping[str, str]) -> int:
    mode = argv[0] if argv else ""
    if mode not in ("plan", "act"):
        sys.stderr.write("usage: failover_run.py plan|act\n")
        return USAGE
    wrong = list(faults(form))
    try:
        regions = json.loads(RECOVERY.read_text())["regions"]
    except (OSError, ValueError, KeyError, TypeError):
        wrong.append("the variable RECOVERY_JSON has no recovery file; see docs/delivery.md")
        regions = ()
    if wrong:
        tell(form, "Nothing was run", "\n".join(f"- {each}" for each in wrong))
        return USAGE
    words = arguments(form, mode)
    code, said = run([str(FAILOVER), *words], {**form, **secrets(form, regions)})
    tell(form, f"failover {' '.join(words)}: exit code {code}", f"```\n{said}\n```")
    return outcome(mode, code)


def run(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and all output, which is also shown while it comes."""
    said = []
    with subprocess.Popen(
        argv, env=dict(environment), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            said.append(line)
    return process.returncode, "".join(said)


def tell(form: Mapping[str, str], title: str, text: str) -> None:
    """Into the summary of the run if there is one, else into the log."""
    summary = form.get("GITHUB_STEP_SUMMARY")
    if not summary:
        sys.stdout.write(f"{title}\n{text}\n")
        return
    sys.stdout.write(f"{title}\n")
    with Path(summary).open("a") as file:
        file.write(f"### {title}\n\n{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
