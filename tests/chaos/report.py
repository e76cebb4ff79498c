"""What a run shows: the table, and everything that was not as promised."""

import math
from collections.abc import Sequence

from sqlalchemy import text

from tests.chaos.load import Load
from tests.chaos.rig import FAR_CLOCKS, Rig, clock
from tests.chaos.schedule import COUNTED
from tests.chaos.watch import Kill, Watch

P99 = 10.0
"""Seconds that 99 of 100 recoveries take at most."""
KILLS, EACH = 1000, 100
SHOWN = 30


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _counted(watch: Watch, victim: str | None = None) -> list[Kill]:
    return [kill for kill in watch.kills if kill.counts and victim in (None, kill.victim)]


def _seconds(kills: Sequence[Kill]) -> list[float]:
    return [kill.seconds if kill.seconds is not None else math.inf for kill in kills]


def table(watch: Watch, load: Load, seconds: float) -> str:
    """Markdown, as it stands in docs/reliability.md."""
    rows = [
        "| victim | kills | recovery p50 | p99 | max | pages in flight | pages it was running |",
        "|---|" + "---:|" * 6,
    ]
    for name in (*COUNTED, "all"):
        kills = _counted(watch, None if name == "all" else name)
        if kills:
            times = _seconds(kills)
            held = sum(kill.pages for kill in kills)
            in_flight = percentile([kill.in_flight for kill in kills], 0.5)
            rows.append(
                f"| {name} | {len(kills):,} | {percentile(times, 0.5):.1f} s | {percentile(times, 0.99):.1f} s "
                f"| {max(times):.1f} s | {in_flight:,.0f} | {f'{held:,}' if held else ''} |"
            )
    uncounted = len(watch.kills) - len(_counted(watch))
    wait, limit = max(load.waits, default=(0.0, 0.0))
    alone = sum(kill.alone for kill in watch.kills)
    return "\n".join(
        [
            *rows,
            "",
            f"- {seconds / 60:.0f} minutes; {uncounted} further kills that do not count (mayhem, or fewer than 500 "
            f"pages in flight), {watch.far_deaths} deaths on the far side; {alone:,} pages lost their second "
            f"worker and waited for one of their own.",
            f"- The far side's store spoilt {watch.store_faults:,} reads; its clocks were "
            f"{', '.join(FAR_CLOCKS) if clock('0') else 'right (libfaketime is not installed)'}.",
            f"- {len(load.acknowledged):,} jobs acknowledged, {load.findings.lines:,} result lines read by their clients, "
            f"{load.findings.dead:,} of them the dead letters that were put in.",
            f"- At most {watch.peaks['pages in flight']:,} pages in {watch.peaks['messages in flight']} messages in "
            f"flight; the broker used {watch.peaks['bytes of the broker'] / 2**20:.1f} MB at most.",
            f"- One page behind all others waited {wait:.1f} s for its claim at most (allowed: {limit:.1f} s).",
            f"- Breaches: {len(watch.breaches)}.",
            "",
        ]
    )


def line(watch: Watch, load: Load) -> str:
    """How far a run is."""
    kills = ", ".join(f"{len(_counted(watch, victim))} {victim}" for victim in COUNTED)
    slowest = max((kill.seconds or 0.0 for kill in _counted(watch)), default=0.0)
    found = len(watch.breaches) + len(load.findings.breaches)
    return (
        f"killed {kills}; slowest {slowest:.1f} s; {load.findings.lines:,} lines read; "
        f"{watch.suspects} pages to run alone; {found} breaches"
    )


def faults(watch: Watch) -> list[str]:
    """What is not as it should be."""
    found = watch.breaches[:SHOWN]
    times = _seconds(_counted(watch))
    if times and percentile(times, 0.99) > P99:
        found.append(f"99 of 100 recoveries took up to {percentile(times, 0.99):.1f} s, more than {P99:g} s")
    return found


def lacking(watch: Watch) -> list[str]:
    """Victims of which fewer have been killed than a whole run has to show."""
    return [
        f"only {number} kills of {victim or 'all'} count"
        for victim in (None, *COUNTED)
        if (number := len(_counted(watch, victim))) < (EACH if victim else KILLS)
    ]


def unknown_jobs(rig: Rig, load: Load) -> list[str]:
    """Jobs that were acknowledged and are not there."""
    with rig.record.transaction() as session:
        known = {str(row.id) for row in session.execute(text("SELECT id FROM jobs"))}
    known |= load.deleted
    return [
        f"job {job_id} was acknowledged and is gone" for job_id in load.acknowledged if job_id not in known
    ]
