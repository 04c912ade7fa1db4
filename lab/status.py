"""`lab status`: what runs, what DNS answers, which faults are on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab import control
from lab.errors import LabError
from lab.lifecycle import Lab
from lab.settings import Settings


def collect(lab: Lab) -> dict[str, Any]:
    """The state of every process of the lab, as JSON can carry it."""
    if not lab.paths.lab_json.exists():
        alive = [p.name for p in lab.processes.alive()]
        state = "half started: run lab down, or lab up again" if alive else "down"
        return {"state": state, "processes": dict.fromkeys(alive, "alive")}
    settings = Settings.load(lab.paths.settings)
    names = settings.processes
    processes = {name: _process_state(lab, name) for name in names}
    healthy = all(state == "alive" for state in processes.values())
    parts = {
        n: _ask(lab, n) for n in names if processes[n] == "alive" and not n.startswith("db-")
    }
    return {
        "state": "up" if healthy else "degraded",
        "profile": settings.profile.name,
        "processes": processes,
        "parts": parts,
    }


def _process_state(lab: Lab, name: str) -> str:
    process = lab.processes.get(name)
    if process is None:
        return "dead"
    return "hanging" if process.stopped else "alive"


def _ask(lab: Lab, name: str) -> Any:
    try:
        return control.call(lab.paths.socket(name), "status", timeout=2)
    except (OSError, LabError) as error:
        return {"error": str(error)}


def render(status: Mapping[str, Any]) -> str:
    """The same for a person: processes, what DNS answers, switches, and every fault that is on."""
    parts = status.get("parts", {})
    lines = [f"lab: {status['state']}"]
    for name, state in status["processes"].items():
        error = parts.get(name, {}).get("error")
        lines.append(f"  {name:<14} {state}" + (f"  ({error})" if error else ""))
    lines += _global_lines(parts.get("global", {}))
    for region, part in parts.items():
        if "aurora" in part:
            lines.append(f"database in {region}: {_database(part['aurora'])}")
        lines += [f"alarm in {region}: {name}" for name in _alarms(part)]
    faults = [f"  {fault}" for fault in _faults(status)]
    return "\n".join([*lines, "faults", *(faults or ["  none"])])


def _global_lines(part: Mapping[str, Any]) -> list[str]:
    if "route53" not in part:
        return []
    names = [n for n in part["route53"]["names"] if n["type"] == "A"]
    lines = ["DNS answers", *(f"  {n['name']:<34} {_shares(n['answers'])}" for n in names)]
    if "arc" in part:
        controls = part["arc"]["routing_controls"]
        lines += ["routing controls", *(f"  {c['name']:<34} {c['state']}" for c in controls)]
    return lines


def _alarms(part: Mapping[str, Any]) -> list[str]:
    """The alarms in ALARM: with them a region has taken a service over."""
    alarms = part.get("cloudwatch", {}).get("alarms", {})
    return [name for name, alarm in alarms.items() if alarm["state"] == "ALARM"]


def _shares(answers: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        " ".join(a["values"]) + ("" if a["share"] == 1 else f" ({a['share']:.0%})")
        for a in answers
    )


def _database(aurora: Mapping[str, Any]) -> str:
    replication = aurora["replication"]
    if replication is None:
        return str(aurora["role"])
    running = "replicating" if replication["running"] else "not replicating"
    return f"{aurora['role']}, {running}"


def _faults(status: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is not as it was after the start."""
    for name, state in status["processes"].items():
        if state != "alive":
            yield f"{name} is {state}"
    parts = status.get("parts", {})
    for endpoint in parts.get("global", {}).get("arc", {}).get("endpoints", ()):
        if endpoint["fault"] != "none":
            yield f"ARC endpoint {endpoint['region']}: {endpoint['fault']}"
    for region in parts.get("global", {}).get("route53", {}).get("unavailable_regions", ()):
        yield f"API Gateway of {region}: down"
    for region, part in parts.items():
        yield from (f"{region}: {fault}" for fault in _region_faults(part))


def _region_faults(part: Mapping[str, Any]) -> Iterator[str]:
    if part.get("apigateway", {}).get("cut"):
        yield "cut off"
    if "fault" in part.get("cloudwatch", {}).get("down", ()):
        yield "CloudWatch down"
    if part.get("aurora", {}).get("link", {}).get("cut"):
        yield "replication cut"
    for name, function in part.get("lambda", {}).get("functions", {}).items():
        if function["fault"] is not None:
            what = ", ".join(f"{k} {v}" for k, v in function["fault"].items() if v)
            yield f"function {name}: {what}"
