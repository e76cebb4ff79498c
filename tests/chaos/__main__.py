"""`python -m tests.chaos --seed N [--minutes M | --short]`: kill everything, again and again, while clients watch.

Prints the table of docs/reliability.md. Ends with 1 on any breach of an invariant; but for the short form on a recovery
p99 above ten seconds; and from 40 minutes on, on fewer kills than a thousand, or than a hundred of any victim.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from tests.chaos import report, schedule, witness
from tests.chaos.clients import rest
from tests.chaos.faults import ENOUGH, Faults
from tests.chaos.invariants import breaches
from tests.chaos.load import Load
from tests.chaos.rig import FarSide, Rig
from tests.chaos.schedule import Round, Step
from tests.chaos.watch import Watch

PATIENCE, LONG_PATIENCE = 40.0, 120.0
"""Seconds after which a victim that has not recovered is a breach; after mayhem, which may hold leases for long."""
ENDING = 180.0
"""Seconds that the last jobs get to end."""
WHOLE = 40.0
"""Minutes from which a run has to show its thousand kills."""
HOUR = 3600.0 - ENDING - 120.0
"""Seconds after which no further cycle begins."""


def run(
    cycles: Iterable[list[Round]], seed: int, workers: int, keep: Path | None, enough: Callable[[Watch], bool]
) -> tuple[Watch, Load]:
    """Start, do cycles of rounds until it is enough, come to rest, and look at everything."""
    with Rig(workers, keep) as rig, Watch(rig) as watch, Load(rig, seed) as load:
        faults = Faults(rig, watch)
        _until(lambda: watch.in_flight() >= ENOUGH, 60.0)
        load.one_page()
        for rounds in cycles:
            for one in rounds:
                began = time.monotonic()
                _round(one, faults, watch, rig)
                _say(f"{one.name}: {time.monotonic() - began:.0f} s, {report.line(watch, load)}")
            load.one_page()
            if enough(watch):
                break
        load.finish(ENDING)
        watch.breaches += load.findings.breaches + _at_rest(rig, load)
    return watch, load


def _round(one: Round, faults: Faults, watch: Watch, rig: Rig) -> None:
    """All tracks together, until what they killed has recovered."""
    with ExitStack() as stack:
        faults.timed = not one.mayhem
        faults.far = stack.enter_context(FarSide(rig)) if one.mayhem else None
        killed = len(watch.kills)
        tracks = [
            threading.Thread(target=_track, args=(track, faults, watch, one.rolling and n == 0), daemon=True)
            for n, track in enumerate(one.tracks)
        ]
        for track in tracks:
            track.start()
        for track in tracks:
            track.join()
        faults.thaw()
        for kill in watch.kills[killed:]:
            watch.recovered(kill, LONG_PATIENCE if one.mayhem else PATIENCE)
        if faults.far:
            watch.far_deaths += faults.far.deaths
            watch.store_faults += faults.far.store.befallen.total()


def _track(steps: tuple[Step, ...], faults: Faults, watch: Watch, rolling: bool) -> None:
    for step in steps:
        rest(step.pause)
        try:
            kill = faults.do(step)
        except Exception as exc:  # noqa: BLE001  what was not done must not pass for survived
            watch.breaches.append(f"{step} could not be done: {exc!r}")
            continue
        if kill and not rolling:
            watch.recovered(kill, PATIENCE)


def _at_rest(rig: Rig, load: Load) -> list[str]:
    """What is still wrong when there is nothing left to do."""
    found: list[str] = []

    def rests() -> bool:
        with rig.record.transaction() as session:
            found[:] = breaches(session, at_rest=True) + witness.breaches(session)
        return not found

    _until(rests, 90.0)
    return found + report.unknown_jobs(rig, load)


def _until(what: Callable[[], bool], patience: float) -> None:
    end = time.monotonic() + patience
    while not what() and time.monotonic() < end:
        rest(0.5)


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def main() -> int:
    """0 if nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--short", action="store_true", help="some forty kills in less than three minutes")
    parser.add_argument(
        "--keep", type=Path, help="a new folder for servers, services and their logs, which stays"
    )
    args = parser.parse_args()
    began = time.monotonic()

    def enough(watch: Watch) -> bool:
        """The minutes have passed, and in a whole run all kills that it has to show have been done."""
        passed = time.monotonic() - began
        return passed > HOUR or (
            passed > 60 * args.minutes - ENDING and not (args.minutes >= WHOLE and report.lacking(watch))
        )

    if args.short:
        watch, load = run([schedule.short(args.seed)], args.seed, 6, args.keep, lambda _: True)
    else:
        watch, load = run(schedule.cycles(args.seed), args.seed, 12, args.keep, enough)
    sys.stdout.write(report.table(watch, load, time.monotonic() - began))
    # What else the machine does is no fault of the fleet's: speed is promised by the long form alone.
    faults = watch.breaches[: report.SHOWN] if args.short else report.faults(watch)
    if not args.short and args.minutes >= WHOLE:
        faults += report.lacking(watch)
    sys.stderr.write(
        "".join(f"LATE: {kill.victim} {kill.seconds}: {kill.late}\n" for kill in watch.kills if kill.late)
    )
    sys.stderr.write("".join(f"BREACH: {fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
