"""health: does this region work?

Shallow at `/`: this region's gateway and function answer. Deep at `/deep`: also everything in
DEPENDENCIES, each with its state and time; 503 when one of them does not work.

Use the shallow one for automatic decisions. A deep check that moves traffic by itself turns the
failure of one dependency into the failure of all that share it; `/deep` is for people and alarms.
"""

from __future__ import annotations

import os
from typing import Any

from chalicelib.checks import Dependency, read_dependencies
from regional import App, Problem

app = App("health")

TIMEOUT_SECONDS = float(os.environ.get("CHECK_TIMEOUT_SECONDS", "2"))
DEPENDENCIES: tuple[Dependency, ...] = read_dependencies(os.environ.get("DEPENDENCIES", "{}"))


@app.route("/")
def shallow() -> dict[str, str]:
    return {"service": app.service, "region": app.region, "status": "ok"}


@app.route("/deep")
def deep() -> dict[str, Any]:
    """Every dependency's state, asked at the same time."""
    from chalicelib.probe import check_all  # ssl and http.client: 20 ms that `/` need not pay

    results = check_all(DEPENDENCIES, TIMEOUT_SECONDS)
    checks = {name: result.as_json() for name, result in results.items()}
    failed = sorted(name for name, result in results.items() if not result.is_ok)
    if failed:
        raise Problem(
            503,
            f"{len(failed)} of {len(results)} dependencies do not work: {', '.join(failed)}",
            headers={"Retry-After": "5", "Cache-Control": "no-store"},
            service=app.service,
            region=app.region,
            checks=checks,
        )
    return {"service": app.service, "region": app.region, "status": "ok", "checks": checks}
