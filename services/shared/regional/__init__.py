"""What every service shares: the region on each answer, problem documents, logs, tracing.

    from regional import App, Problem

    app = App("service1")

    @app.route("/")
    def root():
        return {"service": app.service, "region": app.region}

Exceptions: Exception <- chalice.ChaliceUnhandledError <- Problem.

Downside: `App` leans on how Chalice 1.34 builds its answers (see `regional.app`), so a new Chalice
version has to pass the tests before it is used.
"""

from regional.app import App
from regional.problem import Problem

__all__ = ["App", "Problem"]
