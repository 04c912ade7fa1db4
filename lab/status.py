"""`lab status`: what runs, what DNS answers, which faults are on."""

from __future__ import annotations

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


def render(status: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [f"lab: {status['state']}"]
    for name, state in status["processes"].items():
        lines.append(f"  {name:<14} {state}{_error(name, status)}")
    parts = status.get("parts", {})
    if "global" in parts and "arc" in parts["global"]:
        arc = parts["global"]["arc"]
        lines += ["routing controls"]
        lines += [f"  {c['name']:<28} {c['state']}" for c in arc["routing_controls"]]
        lines += ["ARC endpoints"]
        lines += [
            f"  {e['region']:<16} {e['url']}  {_fault(e['fault'])}" for e in arc["endpoints"]
        ]
    return "\n".join(lines)


def _error(name: str, status: dict[str, Any]) -> str:
    fault = status.get("parts", {}).get(name, {}).get("error")
    return f"  ({fault})" if fault else ""


def _fault(mode: str) -> str:
    return "" if mode == "none" else f"FAULT: {mode}"
