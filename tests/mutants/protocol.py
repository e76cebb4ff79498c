"""The guards of claim, settle, sweep, dispatch and expansion."""

from tests.mutants.mutant import Mutant


def _store(guard: str, module: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(
        guard, f"ocrfleet/store/{module}.py", old, new, tuple(f"tests/store/{test}" for test in tests)
    )


def _unit(guard: str, module: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(guard, f"worker/{module}.py", old, new, tuple(f"tests/unit/{test}" for test in tests))


PROTOCOL = (
    # Claim
    _store(
        "claim: the fence of the message",
        "pages",
        "ON p.id = d.id AND p.fence = d.fence",
        "ON p.id = d.id",
        "test_pages.py::test_claim_skips_pages_whose_fence_moved_on",
    ),
    _store(
        "claim: only dispatched pages",
        "pages",
        "WHERE p.state = 'dispatched' ORDER BY",
        "WHERE p.state IN ('dispatched', 'running') ORDER BY",
        "test_pages.py::test_claim_of_a_repeated_message_finds_nothing",
    ),
    _store(
        "claim: the job runs",
        "pages",
        "AND j.state IN ('queued', 'running') AND (",
        "AND (",
        "test_pages.py::test_claim_skips_pages_of_a_job_that_is_paused_or_canceling",
    ),
    _store(
        "claim: the deadline",
        "pages",
        "AND (j.deadline IS NULL OR j.deadline > now())",
        "",
        "test_pages.py::test_claim_skips_pages_of_a_job_past_its_deadline",
    ),
    # Settle
    _store(
        "settle: the fence of the lease",
        "settle",
        "p.id = s.id AND p.fence = s.fence AND",
        "p.id = s.id AND",
        "test_settle.py::test_settle_refuses_a_result_whose_fence_moved_on",
    ),
    _store(
        "settle: only running pages",
        "settle",
        "AND p.state = 'running' AND (NOT",
        "AND (NOT",
        "test_settle.py::test_a_page_is_settled_once",
        "test_settle.py::test_settle_refuses_a_page_that_no_longer_runs",
    ),
    _store(
        "settle: one page under two fences in a flush",
        "settle",
        "if (s.page_id, s.fence) in ours",
        "if s.page_id in {page for page, _ in ours}",
        "test_settle.py::test_one_page_under_two_fences_in_one_flush_counts_once",
    ),
    _store(
        "settle: results of a canceling job are refused",
        "jobs",
        "return self.state in ACTIVE",
        "return True",
        "test_settle.py::test_pages_of_a_canceling_job_settle_as_canceled_without_a_result",
    ),
    _store(
        "settle: an outcome yields only to a higher fence",
        "outcomes",
        "WHERE o.fence < excluded.fence",
        "",
        "test_outcomes.py::test_an_outcome_is_replaced_only_by_a_higher_fence",
    ),
    # Locks
    _store(
        "locks: the job before its pages",
        "jobs",
        "WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE",
        "WHERE id = ANY(:ids) ORDER BY id",
        "test_settle.py::test_settle_waits_for_the_job_before_it_touches_a_page",
        "test_settle.py::test_no_reader_skips_a_result_while_two_settlers_commit",
    ),
    _store(
        "locks: jobs in ascending order",
        "jobs",
        "WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE",
        "WHERE id = ANY(:ids) ORDER BY id DESC FOR NO KEY UPDATE",
        "test_settle.py::test_settlers_of_several_jobs_do_not_deadlock",
    ),
    # Jobs
    _store(
        "jobs: none completes before its input is expanded",
        "jobs",
        "m.expanded_at IS NOT NULL AND m.succeeded",
        "m.succeeded",
        "test_jobs.py::test_a_job_does_not_complete_while_its_input_is_still_read",
    ),
    _store(
        "jobs: the tenant in every query",
        "jobs",
        "WHERE j.tenant_id = :tenant",
        "WHERE (j.tenant_id = :tenant OR true)",
        "test_jobs.py::test_another_tenant_sees_nothing",
    ),
    # Expansion
    _store(
        "expansion: the cursor is compared and set",
        "expansion",
        "AND cursor = CAST(:before AS jsonb) AND",
        "AND CAST(:before AS jsonb) IS NOT NULL AND",
        "test_expansion.py::test_a_second_expander_at_the_same_cursor_changes_nothing",
    ),
    _store(
        "expansion: not of a job that failed",
        "expansion",
        "AND state IN ('queued', 'running', 'paused')\n        RETURNING result_seq",
        "RETURNING result_seq",
        "test_expansion.py::test_a_job_whose_expansion_fails_is_failed",
    ),
    _store(
        "expansion: two writers of one chunk",
        "expansion",
        "except UniqueViolation as exc",
        "except ZeroDivisionError as exc",
        "test_expansion.py::test_of_two_expanders_that_write_a_chunk_at_once_one_does",
    ),
    _store(
        "counting: only pending items",
        "expansion",
        "WHERE i.id = f.id AND i.state = 'pending' RETURNING i.id",
        "WHERE i.id = f.id RETURNING i.id",
        "test_counting.py::test_counting_twice_adds_nothing",
    ),
    # Dispatch
    _store(
        "dispatch: locked pages are skipped",
        "dispatch",
        "LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED",
        "LIMIT :limit FOR NO KEY UPDATE",
        "test_dispatch.py::test_two_dispatchers_share_no_page_and_neither_waits",
    ),
    _store(
        "dispatch: only ready pages are marked",
        "dispatch",
        "WHERE p.id = b.page_id AND p.state = 'ready'",
        "WHERE p.id = b.page_id",
        "test_dispatch.py::test_only_ready_pages_are_marked",
    ),
    _store(
        "dispatch: a new fence each time",
        "dispatch",
        "fence = p.fence + 1, ",
        "",
        "test_dispatch.py::test_every_dispatch_of_a_page_has_a_higher_fence",
    ),
    _store(
        "dispatch: pages wait out their backoff",
        "dispatch",
        "WHERE job_id = j.id AND state = 'ready' AND not_before <= now()",
        "WHERE job_id = j.id AND state = 'ready'",
        "test_dispatch.py::test_pages_wait_out_their_backoff",
    ),
    # Sweep
    _store(
        "sweep: the lease is checked again in the UPDATE",
        "settle",
        " AND (NOT s.swept OR {LEASE_VOID})",
        "",
        "test_sweep.py::test_a_worker_that_beats_while_the_sweep_runs_keeps_its_pages",
    ),
    _store(
        "sweep: two heartbeats must miss the batch",
        "settle",
        " OR p.batch_id = ANY(w.previous_batches)",
        "",
        "test_sweep.py::test_a_batch_named_in_one_of_two_heartbeats_is_held",
    ),
    _store(
        "sweep: no loss for an outage of the database",
        "sweep",
        "greatest(pg_postmaster_start_time(), CAST(:since AS timestamptz))",
        "CAST(:since AS timestamptz)",
        "test_sweep.py::test_no_loss_is_charged_when_the_database_restarted_after_the_heartbeat",
    ),
    _store(
        "sweep: no loss for what hindered the sweeper itself",
        "sweep",
        "greatest(pg_postmaster_start_time(), CAST(:since AS timestamptz))",
        "pg_postmaster_start_time()",
        "test_sweep.py::test_no_loss_is_charged_for_what_went_before_the_sweepers_session",
    ),
    _store(
        "sweep: no lease expires right after a restart",
        "sweep",
        "pg_postmaster_start_time() <= now() - make_interval(secs => :timeout)\n",
        "true\n",
        "test_sweep.py::test_no_lease_expires_before_the_database_has_run_for_the_timeout",
    ),
    _store(
        "sweep: a worker known to be dead is not waited for",
        "sweep",
        "AND (w.state = 'stopped' OR (",
        "AND (false OR (",
        "test_sweep.py::test_pages_of_a_worker_that_is_known_to_be_dead_wait_for_nothing",
    ),
    _store(
        "sweep: poison needs two workers",
        "sweep",
        "len(earlier | {row.incarnation}) >= PROOFS",
        "row.losses >= EXCLUSIVE_AFTER + 1",
        "test_sweep.py::test_exclusive_losses_on_one_worker_are_one_proof",
    ),
    _store(
        "sweep: a batch that a worker names is not lost",
        "sweep",
        "SELECT 1 FROM workers w WHERE p.batch_id = ANY(w.batches)",
        "SELECT 1 FROM workers w WHERE false",
        "test_messages.py::test_a_batch_that_a_live_worker_names_is_not_lost",
    ),
    # The worker
    _unit(
        "worker: nobody beside is dead whose lock is held",
        "locks",
        "fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "pass",
        "test_locks.py::test_workers_of_one_host_learn_that_one_beside_them_is_dead",
    ),
    _unit(
        "worker: nobody is dead whose lock is held",
        "locks",
        "if self.acquire():",
        "if self.acquire() or True:",
        "test_locks.py::test_a_worker_learns_who_died_before_it_and_nothing_while_that_one_lives",
    ),
    _unit(
        "worker: an exclusive page waits until it is alone",
        "gates",
        "self._changed.wait_for(lambda: self._shared == 0)",
        "pass",
        "test_gates.py::test_an_exclusive_batch_waits_for_the_others_and_keeps_new_ones_out",
    ),
    _unit(
        "worker: an exclusive page keeps others out",
        "gates",
        "wait_for(lambda: self._exclusive == 0)\n                self._shared += 1",
        "wait_for(lambda: True)\n                self._shared += 1",
        "test_gates.py::test_an_exclusive_batch_waits_for_the_others_and_keeps_new_ones_out",
    ),
    _unit(
        "worker: the budget of failures",
        "retry",
        "if failures + 1 >= BUDGET or same + 1 >= error.tries:",
        "if failures > 1000:",
        "test_retry.py::test_four_failures_end_a_page",
    ),
    _unit(
        "worker: what lies elsewhere is free",
        "retry",
        "if error.free:",
        "if not error:",
        "test_retry.py::test_a_fault_of_others_spends_nothing_however_often_it_comes",
    ),
)
