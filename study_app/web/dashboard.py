"""Dashboard as HTML: progress and data quality, blind, updated every ten seconds."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path

from study_app.conduct.live_statistics import LiveStatistics, Proportion
from study_app.conduct.progress import CaseProgress, StudyStatus

_STATIC = Path(__file__).parent / "static"
_SECONDS = 10


def login_page(trouble: str = "") -> str:
    """Return the page that asks for the password."""
    alert = f'<p role="alert">{escape(trouble)}</p>' if trouble else ""
    form = (
        '<form method="post" action="/admin"><label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" autofocus required>'
        "<button>Log in</button></form>"
    )
    return _page("Log in", f"<h1>The study's dashboard</h1>{alert}{form}")


def dashboard_page(status: StudyStatus, seen: LiveStatistics, cases: Sequence[CaseProgress], now: datetime) -> str:
    """Return the dashboard; no figure on it shows any arm's share."""
    share = 100 * status.judged / status.places if status.places else 100.0
    facts = [
        ("judgments", f"{status.judged:,} of {status.places:,} ({share:.1f} %)"),
        (
            "people",
            f"{status.arrived} arrived, {status.consented} agreed, {status.finished} finished, "
            f"{status.partly} partly done, {status.turned_away} turned away",
        ),
        ("pace", f"{seen.last_hour} judgments in the last hour, by {seen.active} people"),
        (
            "complete",
            f"about {_moment(seen.finish_at)}, at this pace"
            if seen.finish_at
            else ("yes" if status.judged >= status.places else "no pace yet"),
        ),
        ("agreement", _agreement(seen)),
        ("left chosen", _share(seen.left)),
        ("null pairs with a side chosen", _share(seen.null_sided)),
        *((f"{kind} as expected", _share(passed)) for kind, passed in seen.passed.items()),
        ("too late for their place", str(status.surplus)),
        ("lapsed unanswered", str(status.lapsed)),
        ("last judgment", _moment(status.latest) if status.latest else "none yet"),
    ]
    body = [
        f'<h1>The study</h1><p class="quiet">{_moment(now)}; updated every {_SECONDS} s. Blind: nothing here shows '
        "which arm is chosen more often.</p>",
        *_notices(status, seen),
        f'<div class="bar" role="progressbar" aria-label="judgments" aria-valuenow="{share:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100"><div style="width:{min(share, 100):.1f}%"></div></div>',
        f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in facts)}</dl>",
        "<h2>Progress</h2>",
        _table(
            ("comparisons of", "comparisons", "complete", "judged", "held now", "wanted"),
            ((" | ".join(group.arms), group.comparisons, group.complete, group.judged, group.held, group.places)
             for group in status.groups),
        ),
        "<h2>Cases</h2>",
        _table(("case", "comparisons", "complete", "judged", "wanted"),
               ((case.case, case.comparisons, case.complete, case.judged, case.places) for case in cases)),
        "<h2>People</h2>",
        _people(seen),
    ]  # fmt: skip
    out = '<form method="post" action="/admin/out"><button class="plain">Log out</button></form>'
    live = f'<div id="live" data-seconds="{_SECONDS}">{"".join(body)}</div>'
    return _page("The study", f'{live}{out}<script type="module">{_static("dashboard.js")}</script>')


def _notices(status: StudyStatus, seen: LiveStatistics) -> list[str]:
    notices = []
    if status.simulated:
        notices.append(f"{status.simulated} of the participants are simulated.")
    if seen.paused:
        notices.append("Paused: no comparison is assigned until `evalkit study resume`.")
    if seen.locked_at is not None:
        notices.append(f"Locked on {_moment(seen.locked_at)}: `evalkit analyze` reports the choices.")
    return [f'<p class="notice">{escape(line)}</p>' for line in notices]


def _people(seen: LiveStatistics) -> str:
    """Return a table of all participants, those who break a rule first."""
    rows = [
        (
            f"{person.participant_id}{' (simulated)' if person.simulated else ''}",
            person.judged,
            f"{100 * person.one_side:.0f} %",
            f"{sum(person.passed.values())} of {sum(person.checked.values())}",
            "" if person.median_ms is None else f"{person.median_ms / 1000:.1f} s",
            "; ".join(broken),
        )
        for person, broken in sorted(seen.people, key=lambda person: (not person[1], person[0].participant_id))
    ]
    return _table(("participant", "judged", "one side", "checks passed", "median time", "breaks a rule"), rows)


def _agreement(seen: LiveStatistics) -> str:
    if seen.agreed.of == 0:
        return "nothing judged twice yet"
    alpha = "" if seen.alpha is None else f"; Krippendorff's alpha {seen.alpha:.2f}"
    return f"{100 * seen.agreed.count / seen.agreed.of:.0f} % of pairs of answers to one comparison are equal{alpha}"


def _share(share: Proportion) -> str:
    if share.interval is None:
        return "none yet"
    low, high = share.interval
    return f"{share.count} of {share.of} ({100 * share.count / share.of:.0f} %, 95 % CI {100 * low:.0f} to {100 * high:.0f})"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    # wider than a phone: it scrolls by itself, by keyboard too
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escape(head[0])}">{table}</div>'


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_static("dashboard.css")}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )


@cache
def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")
