"""Route 53 of the lab: DNS with routing policies and health checks.

Pure parts: `records` (what a zone holds), `reading` (from a `Deployment`), `validation` (what
Route 53 refuses), `health` (status of health checks), `selection` (which records answer), `wire`
(packets). Shell: `responder` (query bytes to answer bytes, remembered), `server` (UDP and TCP),
`probes` (the checkers' connections), `metrics` (what alarms say), `service` (`Route53`, which holds
the state).

Exceptions:

    Route53Error
    ├── DeploymentRefused   records or health checks that Route 53 refuses or the lab cannot imitate
    └── CannotListen        the address is in use or not ours

Downside: one event loop does everything, so a burst of health checks delays answers by the time
it takes to start them.
"""

from lab.route53.errors import CannotListen, DeploymentRefused, Route53Error
from lab.route53.service import Route53

__all__ = ["CannotListen", "DeploymentRefused", "Route53", "Route53Error"]
