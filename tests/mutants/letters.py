"""The guards of dead letters and redrives."""

from tests.mutants.mutant import Mutant

LETTERS = (
    Mutant(
        "redrive: not what died since",
        "ocrfleet/store/redrives.py",
        "AND o.created_at <= :made AND",
        "AND :made IS NOT NULL AND",
        ("tests/store/test_redrives.py::test_what_dies_again_waits_for_the_next_redrive",),
    ),
    Mutant(
        "redrive: not of jobs that were given up",
        "ocrfleet/store/redrives.py",
        "AND {_LEFT_OUT} IS NULL",
        "",
        (
            "tests/store/test_redrives.py::test_jobs_that_were_given_up_are_left_out_and_counted",
            "tests/store/test_redrive_races.py::test_a_redrive_that_meets_a_cancellation_brings_nothing_back",
        ),
    ),
    Mutant(
        "redrive: the job before its pages",
        "ocrfleet/store/redrives.py",
        "    jobs.lock(session, [row.job_id for row in found])\n",
        "",
        (
            "tests/store/test_redrive_races.py::test_a_redrive_waits_for_who_holds_the_job_and_looks_again",
            "tests/store/test_redrive_races.py::test_redrives_of_several_jobs_and_their_settlers_do_not_deadlock",
        ),
    ),
    Mutant(
        "redrive: looks again under the lock",
        "ocrfleet/store/redrives.py",
        "WHERE {where} AND o.page_id = ANY(:ids) ORDER BY p.id",
        "WHERE p.id = ANY(:ids) ORDER BY p.id",
        ("tests/store/test_redrive_races.py::test_a_redrive_waits_for_who_holds_the_job_and_looks_again",),
    ),
    Mutant(
        "redrive: the budget of failures begins anew",
        "ocrfleet/store/redrives.py",
        "failures = 0, redrive_id",
        "redrive_id",
        ("tests/store/test_redrives.py::test_dead_pages_are_ready_again_with_their_ids_and_their_history",),
    ),
    Mutant(
        "redrive: the rate across chunks",
        "ocrfleet/store/redrives.py",
        "not_before = greatest(due.next_at, now())",
        "not_before = now()",
        ("tests/store/test_redrives.py::test_pages_are_spread_by_the_rate_over_all_chunks",),
    ),
    Mutant(
        "redrive: the rate of a chunk that comes late",
        "ocrfleet/store/redrives.py",
        "    next_at = greatest(next_at, now()) +",
        "    next_at = next_at +",
        ("tests/store/test_redrives.py::test_a_chunk_that_comes_late_keeps_to_the_rate_too",),
    ),
    Mutant(
        "redrive: an ended job has its next generation",
        "ocrfleet/store/redrives.py",
        "CASE WHEN j.finished_at IS NULL THEN 0 ELSE 1 END",
        "0",
        (
            "tests/store/test_redrives.py::test_a_job_that_had_ended_goes_on_under_its_next_generation_and_completes_again",
        ),
    ),
    Mutant(
        "redrive: a passed deadline does not end it again",
        "ocrfleet/store/redrives.py",
        "deadline = CASE WHEN j.finished_at IS NULL OR j.deadline > now() THEN j.deadline END",
        "deadline = j.deadline",
        ("tests/store/test_redrives.py::test_a_deadline_of_the_generation_before_does_not_end_the_next",),
    ),
    Mutant(
        "redrive: errors by code go down",
        "ocrfleet/store/redrives.py",
        "UPDATE job_errors e SET pages = e.pages - b.pages",
        "UPDATE job_errors e SET pages = e.pages",
        (
            "tests/store/test_redrives.py::test_a_job_that_had_ended_goes_on_under_its_next_generation_and_completes_again",
            "tests/store/test_redrive_races.py::test_the_record_adds_up_whatever_is_redriven",
        ),
    ),
    Mutant(
        "redrive: the outcome of the time before goes",
        "ocrfleet/store/redrives.py",
        "DELETE FROM outcomes o USING due WHERE o.page_id = due.id",
        "SELECT 1",
        ("tests/store/test_redrives.py::test_dead_pages_are_ready_again_with_their_ids_and_their_history",),
    ),
    Mutant(
        "redrive: the samples of throughput",
        "ocrfleet/store/redrives.py",
        "THEN greatest(j.sampled_done - b.pages, 0)",
        "THEN j.sampled_done",
        (
            "tests/store/test_redrive_races.py::test_the_speed_of_a_job_does_not_suffer_from_what_is_no_longer_done",
        ),
    ),
    Mutant(
        "redrive: one leader a redrive",
        "ocrfleet/store/redrives.py",
        "LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
        "LIMIT 1",
        (
            "tests/store/test_redrives.py::test_the_oldest_redrive_goes_first_and_one_that_another_leader_holds_is_skipped",
        ),
    ),
    Mutant(
        "redrive: an uncounted item begins with a wanted page",
        "ocrfleet/store/redrives.py",
        "SELECT min(CAST(found[1] AS integer))",
        "SELECT min(1)",
        ("tests/store/test_redrive_options.py::test_of_a_document_only_the_pages_that_are_wanted_come_back",),
    ),
    Mutant(
        "redrive: secrets are not told",
        "ocrfleet/store/redrives.py",
        'HIDDEN if name == "password" else value',
        "value",
        ("tests/store/test_redrive_options.py::test_a_redrive_is_written_down_without_its_password",),
    ),
    Mutant(
        "letters: the tenant",
        "ocrfleet/store/letters.py",
        "j.tenant_id = :tenant AND",
        "(j.tenant_id = :tenant OR true) AND",
        (
            "tests/store/test_letters.py::test_another_tenant_sees_no_letter_and_moves_none",
            "tests/store/test_redrives.py::test_another_tenants_letters_are_left_alone",
        ),
    ),
    Mutant(
        "letters: none of deleted jobs",
        "ocrfleet/store/letters.py",
        " AND j.purged_at IS NULL",
        "",
        (
            "tests/store/test_letters.py::test_letters_of_a_deleted_job_and_of_interactive_ones_are_not_there",
            "tests/store/test_redrives.py::test_a_deleted_job_is_left_alone",
        ),
    ),
    Mutant(
        "letters: discarded ones are none",
        "ocrfleet/store/letters.py",
        "o.state = 'dead' AND o.discarded_at IS NULL",
        "o.state = 'dead'",
        (
            "tests/store/test_letters.py::test_discarded_letters_are_gone_from_the_list_and_their_pages_stay_dead",
            "tests/store/test_redrives.py::test_discarded_pages_are_left_alone",
        ),
    ),
    Mutant(
        "discard: as many as expected",
        "ocrfleet/store/letters.py",
        "if actual != expected:",
        "if actual < 0:",
        ("tests/store/test_letters.py::test_a_discard_of_another_number_than_expected_does_nothing",),
    ),
    Mutant(
        "discard: the jobs before the letters",
        "ocrfleet/store/letters.py",
        "held = jobs.lock(session, session.execute(of, values).scalars())",
        "held = session.execute(of, values).scalars()",
        ("tests/store/test_redrive_races.py::test_a_redrive_waits_for_who_holds_the_job_and_looks_again",),
    ),
    Mutant(
        "claim: the override goes over all",
        "ocrfleet/store/pages.py",
        "(self.options, self.item_options or {}, self.override or {})",
        "(self.options, self.override or {}, self.item_options or {})",
        (
            "tests/store/test_redrive_options.py::test_the_override_goes_over_the_items_options_and_the_jobs_parameter_by_parameter",
        ),
    ),
    Mutant(
        "claim: parameters one by one",
        "ocrfleet/store/pages.py",
        'return {**merged, "parameters": parameters} if parameters else merged',
        "return merged",
        (
            "tests/store/test_redrive_options.py::test_the_override_goes_over_the_items_options_and_the_jobs_parameter_by_parameter",
        ),
    ),
    Mutant(
        "claim: the page's last redrive",
        "ocrfleet/store/pages.py",
        "ON r.id = due.redrive_id",
        "ON r.id IS NOT NULL",
        ("tests/store/test_redrive_options.py::test_the_last_redrives_override_counts_alone",),
    ),
    Mutant(
        "settle: further pages come with the redrive",
        "ocrfleet/store/settle.py",
        "SELECT item.id, item.job_id, n, p.redrive_id",
        "SELECT item.id, item.job_id, n, NULL",
        (
            "tests/store/test_redrive_options.py::test_an_item_that_could_not_be_counted_becomes_its_first_page_and_grows",
        ),
    ),
    Mutant(
        "settle: an attempt names its worker",
        "ocrfleet/store/settle.py",
        "LEFT JOIN workers w ON w.incarnation = n.incarnation",
        "LEFT JOIN workers w ON false",
        (
            "tests/store/test_letters.py::test_a_letter_has_every_attempt_with_its_worker_its_parameters_and_the_tail_of_what_came_of_it",
        ),
    ),
    Mutant(
        "settle: an attempt began with its claim",
        "ocrfleet/store/settle.py",
        "return {(row.id, row.fence): row.since for row in rows}",
        "return {}",
        (
            "tests/store/test_letters.py::test_a_lost_worker_leaves_an_attempt_with_its_name_and_its_beginning",
        ),
    ),
    Mutant(
        "redrive: the sweeper's proofs begin anew",
        "ocrfleet/store/sweep.py",
        "AND (r.id IS NULL OR a.ended_at > r.created_at)",
        "",
        (
            "tests/store/test_redrives.py::test_a_poison_page_that_is_redriven_has_to_be_proven_anew_and_runs_alone",
        ),
    ),
    Mutant(
        "redrive: a claim's proofs begin anew",
        "ocrfleet/store/pages.py",
        "AND (r.id IS NULL OR a.ended_at > r.created_at)",
        "",
        (
            "tests/store/test_redrives.py::test_a_poison_page_that_is_redriven_has_to_be_proven_anew_and_runs_alone",
        ),
    ),
    Mutant(
        "thumbnail: a store that does not answer",
        "worker/thumbnails.py",
        "asyncio.timeout(self._patience)",
        "asyncio.timeout(None)",
        ("tests/unit/test_thumbnails.py::test_a_store_that_does_not_answer_is_not_waited_for",),
    ),
    Mutant(
        "thumbnail: a store that refuses",
        "worker/thumbnails.py",
        "except Exception as exc:",
        "except ZeroDivisionError as exc:",
        ("tests/unit/test_thumbnails.py::test_a_store_that_does_not_take_it_is_no_error",),
    ),
    Mutant(
        "thumbnail: broken off",
        "worker/thumbnails.py",
        "except asyncio.CancelledError:",
        "except ZeroDivisionError:",
        ("tests/unit/test_thumbnails.py::test_a_page_that_is_broken_off_meanwhile_ends_all_the_same",),
    ),
    Mutant(
        "thumbnail: of dead pages only",
        "worker/runner.py",
        "settlement.state is PageState.DEAD and found.pixels",
        "found.pixels",
        (
            "tests/flow/test_runner_letters.py::test_a_page_that_is_tried_again_or_was_not_decoded_leaves_none",
        ),
    ),
    Mutant(
        "redrive: pages that a document has not",
        "worker/decode.py",
        "    if page.page_count is None and wanted:",
        "    if page.page_count == 0 and wanted:",
        (
            "tests/flow/test_runner_letters.py::test_a_range_of_pages_that_the_document_has_not_fails_as_counting_would_have",
            "tests/flow/test_runner_letters.py::test_a_range_of_pages_of_an_image_fails_too",
        ),
    ),
)
