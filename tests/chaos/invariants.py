"""What is always true of the record, and what is true of it when all work has ended: each as the SQL that finds breaches.

A check selects the rows that break it, so that a breach shows its evidence. `breaches` looks at whole tables: it is for
tests, whatever they did to the fleet.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

ALWAYS = {
    "a page that succeeded or is dead has one outcome, of its fence; no other page has any": """
        SELECT p.id, p.state, p.fence, o.state AS outcome, o.fence AS of_fence
        FROM pages p FULL JOIN outcomes o ON o.page_id = p.id
        WHERE p.id IS NULL OR (o.page_id IS NOT NULL) <> (p.state IN ('succeeded', 'dead'))
           OR o.state <> p.state OR o.fence <> p.fence OR o.job_id <> p.job_id""",
    "a job's counters equal a recount": """
        SELECT j.id, j.state, j.total, j.succeeded, j.dead, j.canceled, n.* FROM jobs j LEFT JOIN (
            SELECT job_id, count(*) AS pages, count(*) FILTER (WHERE state = 'succeeded') AS pages_succeeded,
                   count(*) FILTER (WHERE state = 'dead') AS pages_dead,
                   count(*) FILTER (WHERE state = 'canceled') AS pages_canceled
            FROM pages GROUP BY job_id
        ) n ON n.job_id = j.id
        WHERE j.purged_at IS NULL AND (j.total, j.succeeded, j.dead, j.canceled) IS DISTINCT FROM (
            coalesce(n.pages, 0), coalesce(n.pages_succeeded, 0), coalesce(n.pages_dead, 0),
            coalesce(n.pages_canceled, 0))""",
    "a job's items equal a recount, and those it counts are pending": """
        SELECT j.id, j.state, j.items_total, j.items_pending, n.items, n.pending FROM jobs j LEFT JOIN (
            SELECT job_id, count(*) AS items, count(*) FILTER (WHERE state = 'pending') AS pending
            FROM items GROUP BY job_id
        ) n ON n.job_id = j.id
        WHERE j.purged_at IS NULL
          AND (j.items_total, j.items_pending) IS DISTINCT FROM (coalesce(n.items, 0), coalesce(n.pending, 0))""",
    "a job's errors by code equal a recount of its dead pages": """
        SELECT * FROM (SELECT job_id, code, pages FROM job_errors WHERE pages <> 0) e
        FULL JOIN (
            SELECT job_id, code, count(*) AS dead FROM outcomes WHERE state = 'dead' GROUP BY job_id, code
        ) o USING (job_id, code)
        WHERE e.pages IS DISTINCT FROM o.dead""",
    "no result is numbered beyond the job's last, or twice": """
        SELECT j.id, j.result_seq, max(o.seq) AS last FROM jobs j JOIN outcomes o ON o.job_id = j.id
        GROUP BY j.id HAVING max(o.seq) > j.result_seq OR count(DISTINCT o.seq) < count(*)""",
    "a page is of the job of its item, and stands in it once": """
        SELECT p.item_id, p.number, count(*) FROM pages p LEFT JOIN items i ON i.id = p.item_id AND i.job_id = p.job_id
        GROUP BY p.item_id, p.number HAVING count(*) > 1 OR count(i.id) = 0""",
    "a job has ended when all of its pages have, and not before": """
        SELECT id, state, expanded_at, finished_at, total, succeeded, dead, canceled FROM jobs
        WHERE state <> 'failed' AND (finished_at IS NOT NULL)
              <> (expanded_at IS NOT NULL AND succeeded + dead + canceled = total)""",
    "only a page that ended two workers alone is poison": """
        SELECT o.page_id, count(a.page_id) AS proofs FROM outcomes o LEFT JOIN attempts a ON a.page_id = o.page_id
            AND a.exclusive = 1 AND a.code IN ('worker_lost', 'engine_crashed', 'poison_page')
        WHERE o.code = 'poison_page' GROUP BY o.page_id HAVING count(DISTINCT a.incarnation) < 2""",
}

AT_REST = {
    "every job has ended": "SELECT id, state, total, succeeded, dead, canceled FROM jobs WHERE finished_at IS NULL",
    "no page waits, and none is leased": """
        SELECT id, job_id, state, fence, losses, failures, since, not_before, incarnation FROM pages
        WHERE state IN ('ready', 'dispatched', 'running')""",
    "no worker holds a batch": """
        SELECT name, incarnation, state, batches FROM workers
        WHERE batches <> '{}' AND state <> 'stopped' AND heartbeat_at > now() - make_interval(secs => :timeout)""",
    "no transaction is open": """
        SELECT pid, application_name, state, now() - xact_start AS age, query FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start < now() - interval '1 second'""",
    "no redrive goes on": "SELECT * FROM redrives WHERE finished_at IS NULL",
    "no purged job is left": "SELECT id FROM jobs WHERE purged_at IS NOT NULL",
}

_SHOWN = 5


def breaches(session: Session, *, at_rest: bool = False, heartbeat_timeout: float = 8.0) -> list[str]:
    """What is not as it must be, each with some rows to show for it; `at_rest`: all jobs are expected to have ended.

    A worker may take two heartbeats to say that it holds nothing any more, and a dead one says so by its silence.
    """
    checks = ALWAYS | AT_REST if at_rest else ALWAYS
    found: list[str] = []
    for rule, query in checks.items():
        rows = session.execute(text(query), {"timeout": heartbeat_timeout}).mappings().fetchmany(_SHOWN)
        found += [f"{rule}: { ({name: str(value) for name, value in row.items()}) }" for row in rows]
    return found
