"""The evidence as one HTML file that needs no network and no script. No I/O.

On top the verdict with its reasons, then one timeline per service, then the numbers. Colours follow
the reader's light or dark setting; every chart has its content in words, too, and failures are
hatched as well as red. All text from outside is escaped.

The downside of having no script: nothing can be zoomed or filtered; the JSON beside it has it all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from loadtest.chart import Axis, Mark, chart, columns, story
from loadtest.losses import marks_of, stretches
from loadtest.page_writes import no_loss, write_tiles, writes_legend, writes_section
from loadtest.record import REFUSED, WRITES

STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c2024;--soft:#60646c;--line:#d9dce1;
--plot:#f1f2f4;--region-0:#2f6fb5;--region-1:#e39b1e;--region-2:#1d9a78;--region-3:#8a63c9;
--region-4:#6c8a19;--region-5:#3aa3b8;--other:#8b8d98;--bad:#c8102e;--good:#18794e;
--bad-bg:#fdecee;--good-bg:#e7f5ee;--moving:#7a3fd1}
@media(prefers-color-scheme:dark){:root{--bg:#111315;--card:#191b1e;--ink:#edeef0;--soft:#a4a9b1;
--line:#343a40;--plot:#22262a;--region-0:#5b9fe6;--region-1:#f0b54a;--region-2:#36c29b;
--region-3:#b596ee;--region-4:#a3c244;--region-5:#61c7dc;--other:#7d828a;--bad:#ff5c70;
--good:#4cc38a;--bad-bg:#3b1219;--good-bg:#11291f;--moving:#c3a2ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 8px}h3{font-size:16px;margin:0}
p{margin:4px 0}.soft{color:var(--soft)}
.verdict{border-left:6px solid;border-radius:8px;padding:14px 18px;margin:18px 0}
.verdict strong{font-size:22px;letter-spacing:.02em}
.passed{border-color:var(--good);background:var(--good-bg)}.passed strong{color:var(--good)}
.failed-verdict{border-color:var(--bad);background:var(--bad-bg)}
.failed-verdict strong{color:var(--bad)}
.verdict ul{margin:6px 0 0;padding-left:20px}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:0}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px;
min-width:130px}
.tiles dt{color:var(--soft);font-size:13px}
.tiles dd{margin:0;font-size:22px;font-variant-numeric:tabular-nums}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px 10px;
margin:12px 0;overflow-x:auto}
.head{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline;justify-content:space-between}
svg{display:block;width:100%;min-width:760px;height:auto}
svg text{font-size:11.5px;fill:var(--soft)}
.writes{fill:var(--good)}.refused{fill:var(--other)}
.plot{fill:var(--plot)}.axis{stroke:var(--line)}.moving{fill:var(--moving)}
.region-0{fill:var(--region-0)}.region-1{fill:var(--region-1)}.region-2{fill:var(--region-2)}
.region-3{fill:var(--region-3)}.region-4{fill:var(--region-4)}.region-5{fill:var(--region-5)}
.region-other{fill:var(--other)}.failed{fill:url(#hatch)}.failed-mark{fill:var(--bad)}
.hatch-ground{fill:var(--bad)}.hatch-line{stroke:var(--card);stroke-width:1.4;opacity:.55}
line.mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 3}
line.own{stroke:var(--ink);stroke-width:1.6;stroke-dasharray:none}
text.mark{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg text.own{fill:var(--ink);font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:6px 18px;padding:0;margin:8px 0;list-style:none}
.legend svg{display:inline-block;width:14px;min-width:0;height:14px;vertical-align:-2px;
margin-right:6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:6px}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600}thead th{color:var(--soft);font-weight:500;font-size:13px}
th:first-child,td.text,th.text{text-align:left}
tbody tr:last-child>*{border-bottom:0}
.bad{color:var(--bad);font-weight:600}
@media print{body{background:#fff}.card,.verdict{break-inside:avoid}}
"""
HATCH = (
    '<svg width="0" height="0" aria-hidden="true" style="position:absolute;min-width:0">'
    '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="hatch-ground" width="5" height="5"/>'
    '<line class="hatch-line" x1="0" y1="0" x2="0" y2="5"/></pattern></defs></svg>'
)
DASH = "–"
MINIMUM_GAP = 0.15
"""Seconds without an acknowledged write that are shown as a gap, at the least."""
Stretches = Sequence[tuple[float, float]]
"""(from, to) in seconds since the epoch."""


def page(
    evidence: Mapping[str, Any],
    timeline: Sequence[Mapping[str, Any]],
    title: str = "Failover evidence",
    marks: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The whole file. `evidence` is what `loadtest.evidence.judge` returned, `timeline` and `marks`
    are the report's."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_when(evidence))}</p>',
        _verdict(evidence),
        _tiles(evidence),
        "<h2>Which region answered</h2>",
        _legend(evidence["regions"], writes_legend(evidence)),
        *_charts(evidence, timeline, marks),
        "<h2>Numbers</h2>",
        _services_table(evidence),
        _events_table(evidence),
        writes_section(evidence),
        _connections(evidence),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}: {escape(evidence['verdict'])}</title>"
        f"<style>{STYLE}</style></head><body>{HATCH}<main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _when(evidence: Mapping[str, Any]) -> str:
    if evidence["started_at"] is None:
        return "The load test was never started."
    started = datetime.fromtimestamp(evidence["started_at"], UTC)
    return (
        f"Measured from outside, from {started:%Y-%m-%d %H:%M:%S} UTC for "
        f"{evidence['ended_at'] - evidence['started_at']:.1f} s. "
        "All times below are seconds from that start."
    )


def _verdict(evidence: Mapping[str, Any]) -> str:
    passed = evidence["verdict"] == "passed"
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in evidence["reasons"])
    text = (
        "<p>Every service that was told to move moved, no other service did, "
        f"and no request failed outside of an outage. {no_loss(evidence)}</p>"
        if passed
        else f"<ul>{reasons}</ul>"
    )
    return (
        f'<div class="verdict {"passed" if passed else "failed-verdict"}">'
        f"<strong>Verdict: {escape(evidence['verdict'])}</strong>{text}</div>"
    )


def _tiles(evidence: Mapping[str, Any]) -> str:
    services = evidence["services"].values()
    requests = sum(service["requests"] for service in services)
    failed = sum(service["failed"] for service in services)
    events = [event for service in services for event in service["events"]]
    planned = _worst_rto(events, ("planned_move",))
    unplanned = _worst_rto(events, ("region_killed",))
    lost = sum(event["failed_requests"] for event in events if event["kind"] == "planned_move")
    tiles = [
        ("Requests", f"{requests:,}", ""),
        ("Failed in planned moves", f"{lost:,}", ' class="bad"' if lost else ""),
        ("Failed in all", f"{failed:,}", ""),
        ("Longest planned move", planned, ""),
        ("Longest outage by a kill", unplanned, ""),
        *write_tiles(evidence),
    ]
    return (
        '<dl class="tiles">'
        + "".join(
            f"<div><dt>{name}</dt><dd{extra}>{value}</dd></div>" for name, value, extra in tiles
        )
        + "</dl>"
    )


def _worst_rto(events: Iterable[Mapping[str, Any]], kinds: Sequence[str]) -> str:
    known = [
        event["rto_seconds"]
        for event in events
        if event["kind"] in kinds and event["rto_seconds"] is not None
    ]
    return f"{max(known):.2f} s" if known else DASH


def _legend(regions: Sequence[str], legend_of_writes: str) -> str:
    entries = [(f"region-{i % 6}", region) for i, region in enumerate(regions)]
    entries.append(("failed", "failed request"))
    items = "".join(
        '<li><svg viewBox="0 0 14 14" aria-hidden="true">'
        f'<rect class="{css}" width="14" height="14" rx="2"/></svg>{escape(name)}</li>'
        for css, name in entries
    )
    return (
        f'<ul class="legend">{items}</ul><p class="soft">Each column shows the shares of the '
        "requests that ended in it. Solid lines: commands that concern the service, with the "
        "time until the new region answered, which the violet bar shows. Dotted lines: commands "
        "that concern others. Red marks below a column: at least one request failed in it."
        f"{legend_of_writes}</p>"
    )


def _charts(
    evidence: Mapping[str, Any],
    timeline: Sequence[Mapping[str, Any]],
    marks: Sequence[Mapping[str, Any]],
) -> list[str]:
    if evidence["started_at"] is None:
        return []
    fewest = min((s["requests"] for s in evidence["services"].values()), default=0)
    axis = Axis(evidence["started_at"], evidence["ended_at"], fewest)
    cards = []
    for number, (name, service) in enumerate(evidence["services"].items()):
        counted = columns(timeline, name, axis)
        svg = chart(
            name,
            counted,
            axis,
            _marks(name, service, evidence["moves"]),
            evidence["regions"],
            f"chart-{number}",
            _lanes(marks, name),
        )
        cards.append(
            f'<section class="card"><div class="head"><h3>{escape(name)}</h3>'
            f'<span class="soft">{service["requests"]:,} requests, {service["failed"]:,} failed'
            f'</span></div>{svg}<p class="soft">{escape(story(counted, axis))}</p></section>'
        )
    return cards


def _lanes(marks: Sequence[Mapping[str, Any]], name: str) -> list[tuple[str, str, Stretches]]:
    """What is drawn below the columns of a service that is written to: (label, class, when)."""
    own = marks_of({"marks": marks}, name)
    if not own:
        return []
    writes = own.get(WRITES, [])
    # A pause that is usual at this rate is no gap.
    usual = 4 * (writes[-1].last - writes[0].first) / sum(c.count for c in writes) if writes else 0
    join = max(MINIMUM_GAP, usual)
    return [
        ("writes", "writes", stretches(writes, join)),
        ("refused", "refused", stretches(own.get(REFUSED, []), MINIMUM_GAP)),
    ]


def _marks(name: str, service: Mapping[str, Any], moves: Sequence[Mapping[str, Any]]) -> list[Mark]:
    own = {(event["kind"], event["commanded_at"]): event for event in service["events"]}
    marks = []
    for move in moves:
        event = own.get((move["kind"], move["commanded_at"]))
        label, arrived = _label(name, move), None
        # The RTO after a kill counts from the kill: it is shown there, not at the evacuation.
        if event is not None and _counts_from_itself(event):
            label += f", {event['rto_seconds']:.2f} s"
            arrived = event["first_new_region_at"]
        marks.append(Mark(move["commanded_at"], label, event is not None, arrived))
    return marks


def _counts_from_itself(event: Mapping[str, Any]) -> bool:
    rto, arrived = event["rto_seconds"], event["first_new_region_at"]
    return rto is not None and abs(event["commanded_at"] + rto - arrived) < 1e-3


def _label(name: str, move: Mapping[str, Any]) -> str:
    kind = move["kind"]
    if kind == "planned_move":
        who = "" if name in move["services"] else f" of {', '.join(move['services'])}"
        return f"planned move{who} to {move['to']}"
    if kind == "evacuation":
        return f"evacuation to {move['to']}"
    if kind == "region_killed":
        return f"{move['from']} killed"
    return f"{move['from']} restored"


def _services_table(evidence: Mapping[str, Any]) -> str:
    regions = evidence["regions"]
    others = sorted(
        {region for s in evidence["services"].values() for region in s["by_region"]} - set(regions)
    )
    named = [*regions, *others]
    head = "".join(f'<th scope="col">{escape(region)}</th>' for region in named)
    rows = []
    for name, service in evidence["services"].items():
        cells = "".join(f"<td>{service['by_region'].get(region, 0):,}</td>" for region in named)
        why = ", ".join(f"{n} x {reason}" for reason, n in service.get("failures", {}).items())
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td>{service["requests"]:,}</td>'
            f"<td>{service['failed']:,}</td>{cells}"
            f'<td class="text">{escape(why) or DASH}</td></tr>'
        )
    return (
        '<div class="card"><table><caption>Requests, and good answers by region</caption><thead>'
        '<tr><th scope="col">Service</th><th scope="col">Requests</th><th scope="col">Failed</th>'
        f'{head}<th scope="col" class="text">Why requests failed</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _events_table(evidence: Mapping[str, Any]) -> str:
    start = evidence["started_at"]
    owners = [(name, s["events"]) for name, s in evidence["services"].items()]
    owners.append(("api (all services)", evidence["api"]["events"]))
    rows = [_event_row(name, event, start) for name, events in owners for event in events]
    if not rows:
        return '<p class="soft">Nothing was commanded.</p>'
    columns_ = ("Commanded", "First new answer", "Last old answer", "RTO", "Failed requests")
    head = "".join(f'<th scope="col">{name}</th>' for name in columns_)
    return (
        '<div class="card"><table><caption>Events. The RTO of a planned move counts from the '
        "command, that of a kill and of its evacuation from the kill, each until the first good "
        "answer of the new region.</caption><thead>"
        '<tr><th scope="col">Service</th><th scope="col" class="text">Event</th>'
        f'<th scope="col" class="text">From → to</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _event_row(name: str, event: Mapping[str, Any], start: float | None) -> str:
    def seconds(at: float | None) -> str:
        return f"<td>{DASH if at is None or start is None else f'{at - start:.2f} s'}</td>"

    rto = event["rto_seconds"]
    way = escape(event["from"]) + (f" → {escape(event['to'])}" if event["to"] else "")
    return (
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td class="text">{escape(event["kind"].replace("_", " "))}</td>'
        f'<td class="text">{way}</td>{seconds(event["commanded_at"])}'
        f"{seconds(event['first_new_region_at'])}{seconds(event['last_old_region_at'])}"
        f"<td>{DASH if rto is None else f'{rto:.2f} s'}</td>"
        f"{_failed_cell(event['failed_requests'], event['kind'])}</tr>"
    )


def _failed_cell(count: int, kind: str = "") -> str:
    """Red only where a failure is a fault: in an outage it is the subject of the test."""
    if kind in ("region_killed", "evacuation"):
        return f"<td>{count:,}</td>"
    return f'<td class="bad">{count:,}</td>' if count else "<td>0</td>"


def _connections(evidence: Mapping[str, Any]) -> str:
    sockets = "".join(
        f'<tr><th scope="row">{escape(address)}</th><td>{count:,}</td></tr>'
        for address, count in evidence["sockets"].items()
    )
    others = "; ".join(
        f"{escape(title)}: "
        + (escape(", ".join(f"{name} {n}" for name, n in evidence[key].items())) or "none")
        for title, key in (("connections given up", "connections"), ("resolver", "resolver"))
    )
    return (
        "<h2>Where the sockets went</h2>"
        '<div class="card"><table><caption>Sockets opened by the load test, by address'
        '</caption><thead><tr><th scope="col">Address</th><th scope="col">Sockets</th></tr>'
        f"</thead><tbody>{sockets}</tbody></table></div>"
        f'<p class="soft">{others}.</p>'
    )
