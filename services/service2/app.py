"""service2: says where it runs, and takes as long as it is told to.

`/slow/{milliseconds}` shows which time-out ends a request, and what the caller then gets.

Downside: every slow request holds an execution environment, so anyone who can call it can use up
the function's concurrency. Take the route out before the service meets the public.
"""

from __future__ import annotations

import time

from regional import App, Problem

app = App("service2")
app.deep()

MAX_MILLISECONDS = 15_000


@app.route("/")
def root() -> dict[str, str]:
    return {"service": app.service, "region": app.region}


@app.route("/slow/{milliseconds}")
def slow(milliseconds: str) -> dict[str, str | int]:
    """Answers after that time; 400 unless it is a whole number from 0 to MAX_MILLISECONDS."""
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) <= 5):
        raise Problem(400, f"milliseconds is a whole number from 0 to {MAX_MILLISECONDS}")
    wanted = int(milliseconds)
    if wanted > MAX_MILLISECONDS:
        raise Problem(400, f"milliseconds is at most {MAX_MILLISECONDS}")
    with app.tracer.span("wait"):
        time.sleep(wanted / 1000)
    return {"service": app.service, "region": app.region, "milliseconds": wanted}
