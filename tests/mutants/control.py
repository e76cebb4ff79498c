"""The guards of cancel, pause, resume, change and delete."""

from tests.mutants.mutant import Mutant

CONTROL = (
    Mutant(
        "control: a deleted job is found no more",
        "ocrfleet/store/control.py",
        "AND (purged_at IS NULL OR :purged)\n        FOR",
        "AND (purged_at IS NULL OR :purged OR true)\n        FOR",
        ("tests/store/test_control.py::test_a_deleted_job_is_found_only_to_be_deleted_again",),
    ),
    Mutant(
        "control: the tenant in every act",
        "ocrfleet/store/control.py",
        "WHERE id = :job AND tenant_id = :tenant AND (purged",
        "WHERE id = :job AND (tenant_id = :tenant OR true) AND (purged",
        ("tests/store/test_control.py::test_another_tenants_job_is_not_found",),
    ),
    Mutant(
        "control: the job is locked before it is judged",
        "ocrfleet/store/control.py",
        "OR :purged)\n        FOR NO KEY UPDATE",
        "OR :purged)",
        (
            "tests/store/test_purge.py::test_a_deletion_that_meets_a_redrive_is_refused_since_the_job_runs_again",
        ),
    ),
    Mutant(
        "control: acts need an active job",
        "ocrfleet/store/control.py",
        '    if state not in ACTIVE:\n        raise JobStateConflict(f"The job is {state} and can no',
        '    if False:\n        raise JobStateConflict(f"The job is {state} and can no',
        (
            "tests/store/test_control.py::test_what_does_not_fit_the_state_is_refused_with_it_and_changes_nothing",
        ),
    ),
    Mutant(
        "control: priority and deadline of an active job only",
        "ocrfleet/store/control.py",
        'if changes.keys() - {"labels"} and state not in ACTIVE:',
        "if False:",
        (
            "tests/store/test_control.py::test_what_does_not_fit_the_state_is_refused_with_it_and_changes_nothing",
        ),
    ),
    Mutant(
        "control: only ended jobs are deleted",
        "ocrfleet/store/control.py",
        "if state not in JOB_TERMINAL:",
        "if False:",
        (
            "tests/store/test_control.py::test_what_does_not_fit_the_state_is_refused_with_it_and_changes_nothing",
        ),
    ),
    Mutant(
        "cancel: what moved meanwhile is looked for again",
        "ocrfleet/store/control.py",
        "for _ in range(2))",
        "for _ in range(1))",
        (
            "tests/store/test_cancel.py::test_cancel_and_dispatch_at_once_do_not_deadlock",
            "tests/store/test_messages.py::test_a_cancellation_that_meets_a_sweep_cancels_what_came_back",
        ),
    ),
    Mutant(
        "cancel: workers are told",
        "ocrfleet/store/control.py",
        "    notify(session, CANCEL, str(job_id))\n    if actor",
        "    if actor",
        ("tests/flow/test_cancels.py::test_pages_of_a_canceled_job_are_aborted_and_no_others",),
    ),
    Mutant(
        "cancel: workers are told of failed jobs",
        "ocrfleet/store/control.py",
        "    _drop_queued(session, job_id)\n    notify(session, CANCEL, str(job_id))",
        "    _drop_queued(session, job_id)",
        ("tests/flow/test_cancels.py::test_so_are_those_of_a_job_whose_expansion_failed",),
    ),
    Mutant(
        "cancel: a worker looks again for pages just claimed",
        "worker/cancels.py",
        "for _ in range(_TRIES):",
        "for _ in range(1):",
        (
            "tests/flow/test_cancels.py::test_a_page_that_is_claimed_and_that_its_runner_does_not_know_yet_is_aborted_a_little_later",
        ),
    ),
    Mutant(
        "cancel: items are counted no more",
        "ocrfleet/store/expansion.py",
        "if c.item.job_id in held and held[c.item.job_id].accepts]",
        "]",
        (
            "tests/store/test_cancel.py::test_items_still_to_be_counted_are_canceled_in_steps_too_and_counted_no_more",
        ),
    ),
    Mutant(
        "cancel: not done before its items are dropped",
        "ocrfleet/store/control.py",
        "AND (items_pending > 0\n               OR EXISTS",
        "AND (EXISTS",
        (
            "tests/store/test_cancel.py::test_items_still_to_be_counted_are_canceled_in_steps_too_and_counted_no_more",
        ),
    ),
    Mutant(
        "pause: what was dispatched comes back",
        "ocrfleet/store/control.py",
        '    session.execute(_recall("p.job_id = :job"), {"job": job_id})\n    audit.record(session, tenant_id, actor, "pause"',
        '    audit.record(session, tenant_id, actor, "pause"',
        (
            "tests/store/test_pause.py::test_pause_returns_what_was_dispatched_at_no_charge_and_lets_what_runs_finish",
        ),
    ),
    Mutant(
        "pause: what runs is left alone",
        "ocrfleet/store/control.py",
        "WHERE p.state = 'dispatched' AND {which} ORDER",
        "WHERE p.state IN ('dispatched', 'running') AND {which} ORDER",
        ("tests/store/test_pause.py::test_pausing_waits_for_a_claim_under_way_whose_pages_run",),
    ),
    Mutant(
        "resume: what was sent in spite of the pause comes back",
        "ocrfleet/store/control.py",
        '    session.execute(_recall("p.job_id = :job"), {"job": job_id})\n    notify(session, WORK)',
        "    notify(session, WORK)",
        (
            "tests/store/test_pause.py::test_resuming_recalls_it_as_well_so_that_no_page_waits_for_a_lost_message",
        ),
    ),
    Mutant(
        "pause: only of paused jobs dispatched pages are recalled",
        "ocrfleet/store/control.py",
        "j.id = p.job_id AND j.state = 'paused')",
        "j.id = p.job_id)",
        (
            "tests/store/test_pause.py::test_what_a_dispatcher_sends_in_spite_of_a_pause_is_recalled_at_no_charge",
        ),
    ),
    Mutant(
        "resume: to where it was",
        "ocrfleet/store/control.py",
        "SET state = CASE WHEN started_at IS NULL THEN 'queued' ELSE 'running' END,",
        "SET state = 'running',",
        ("tests/store/test_pause.py::test_a_job_that_never_started_is_queued_again",),
    ),
    Mutant(
        "resume: the speed is sampled afresh",
        "ocrfleet/store/control.py",
        "sampled_at = CASE WHEN started_at IS NULL THEN NULL ELSE now() END, sampled_done = succeeded + dead",
        "sampled_at = sampled_at",
        ("tests/store/test_pause.py::test_a_pause_is_no_time_in_which_nothing_was_done",),
    ),
    Mutant(
        "deadline: looked at under the job's lock",
        "ocrfleet/store/control.py",
        "ORDER BY deadline LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
        "ORDER BY deadline LIMIT 1",
        ("tests/store/test_control.py::test_a_deadline_that_is_moved_in_time_cancels_nothing",),
    ),
    Mutant(
        "deadline: of paused jobs too",
        "ocrfleet/store/control.py",
        "deadline <= now() AND state IN ('queued', 'running', 'paused')",
        "deadline <= now() AND state IN ('queued', 'running')",
        ("tests/store/test_cancel.py::test_at_its_deadline_a_jobs_unfinished_pages_are_canceled",),
    ),
    Mutant(
        "jobs: a deleted one is not seen",
        "ocrfleet/store/jobs.py",
        "AND (j.purged_at IS NULL OR :purged)",
        "AND (j.purged_at IS NULL OR :purged OR true)",
        ("tests/store/test_purge.py::test_a_deleted_job_is_seen_no_more",),
    ),
    Mutant(
        "purge: only deleted jobs",
        "ocrfleet/store/purge.py",
        "WHERE id = :job AND purged_at IS NOT NULL RETURNING 1",
        "WHERE id = :job RETURNING 1",
        ("tests/store/test_purge.py::test_a_job_that_is_not_deleted_loses_nothing",),
    ),
    Mutant(
        "purge: not under running pages",
        "ocrfleet/store/purge.py",
        "              AND NOT EXISTS (SELECT 1 FROM pages p WHERE p.job_id = j.id AND p.state IN ('dispatched', 'running'))\n",
        "",
        ("tests/store/test_purge.py::test_pages_of_a_failed_job_that_still_run_are_let_go_first",),
    ),
    Mutant(
        "purge: leased",
        "ocrfleet/store/purge.py",
        " AND (expansion_leased_until IS NULL OR expansion_leased_until <= now())",
        "",
        ("tests/store/test_purge.py::test_one_producer_at_a_time_takes_a_job_away_until_its_lease_runs_out",),
    ),
    Mutant(
        "purge: an item goes after its pages",
        "ocrfleet/store/purge.py",
        "        AND NOT EXISTS (SELECT 1 FROM pages p WHERE p.item_id = i.id) RETURNING 1",
        "        RETURNING 1",
        ("tests/store/test_purge.py::test_a_document_of_many_pages_goes_in_chunks_too",),
    ),
    Mutant(
        "purge: rows stay while they name objects",
        "producer/purge.py",
        "            return True\n        with",
        "        with",
        ("tests/flow/test_purger.py::test_while_the_store_is_away_the_rows_that_name_its_objects_stay",),
    ),
    Mutant(
        "settle: results of purged jobs are refused",
        "ocrfleet/store/settle.py",
        "[s for s in settlements if s.job_id in held]",
        "list(settlements)",
        (
            "tests/store/test_purge.py::test_a_late_result_of_a_job_that_is_gone_is_refused_and_harms_no_other_in_its_flush",
        ),
    ),
    Mutant(
        "results: a stream of a deleted job has no end",
        "api/results.py",
        "            if not jobs.is_there(session, self.job_id):\n                return None\n",
        "",
        (
            "tests/flow/api/test_api_control.py::test_a_stream_whose_job_is_deleted_breaks_off_without_its_last_line",
        ),
    ),
    Mutant(
        "api: an act that is refused changes nothing",
        "api/control.py",
        'if len(row["labels"]) > MAX_LABELS:',
        "if False:",
        (
            "tests/flow/api/test_api_control.py::test_more_labels_than_a_job_may_have_are_refused_and_none_is_kept",
        ),
    ),
    Mutant(
        "client: acts are repeated",
        "ocrfleet/client/asks.py",
        "if last or isinstance(exc, HOPELESS):",
        "if True:",
        ("tests/unit/test_cli_control.py::test_an_act_is_sent_again_when_its_answer_was_lost",),
    ),
)
