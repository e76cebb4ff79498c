"""The guards of bucket events, their rules and jobs, and of outputs per item."""

from tests.mutants.mutant import Mutant

_ROLLING = "ocrfleet/store/rolling.py"
_RULES = "ocrfleet/store/rules.py"
_EVENTS = "ocrfleet/store/events.py"
_OUTPUTS = "ocrfleet/store/item_outputs.py"
_OBJECTS = "ocrfleet/store/rule_objects.py"
_OBJECT_TESTS = "tests/store/test_rule_objects.py"
_TESTS = "tests/store/test_rolling.py"
_RULE_TESTS = "tests/store/test_rules.py"
_WRITES = "tests/flow/test_item_outputs.py"
_ENDS = "tests/flow/test_item_outputs_ends.py"

EVENTS = (
    Mutant(
        "events: each version once",
        _OBJECTS,
        "return [one for one in told if one.key not in there]",
        "return told",
        (f"{_TESTS}::test_the_same_event_is_kept_once_and_the_same_version_taken_once",),
    ),
    Mutant(
        "events: own outputs are left out",
        _ROLLING,
        "if rule.matches(one.key) and not own.include(rule.tenant_id, one.key)]",
        "if rule.matches(one.key)]",
        (f"{_TESTS}::test_results_are_never_taken_for_inputs",),
    ),
    Mutant(
        "events: what is in our own bucket",
        _ROLLING,
        "if self._ours and is_ours(self._bucket, key, self._bucket):",
        "if False:",
        (f"{_TESTS}::test_what_came_from_us_in_our_own_bucket_is_left_out",),
    ),
    Mutant(
        "events: an open job is expanded by nobody else",
        "ocrfleet/store/expansion.py",
        "WHERE listed_at IS NULL AND open_until IS NULL AND",
        "WHERE listed_at IS NULL AND",
        (f"{_TESTS}::test_an_open_job_grows_and_does_not_complete",),
    ),
    Mutant(
        "events: rules are locked while they are applied",
        _RULES,
        "AND tenant_id = ANY(:tenants) ORDER BY id FOR NO KEY UPDATE",
        "AND tenant_id = ANY(:tenants) ORDER BY id",
        (f"{_RULE_TESTS}::test_a_listing_and_an_event_that_meet_take_an_object_once_and_fill_one_job",),
    ),
    Mutant(
        "events: a changed rule fills another job",
        _RULES,
        '    _close(session, rule["id"])\n    before',
        "    before",
        (f"{_RULE_TESTS}::test_a_rule_that_is_changed_or_deleted_lets_go_of_its_job",),
    ),
    Mutant(
        "events: a listing goes on only with the same rule",
        _RULES,
        "return rule if row is not None and _rule(row) == rule else None",
        "return rule",
        (f"{_RULE_TESTS}::test_a_listing_goes_on_from_its_cursor_and_only_while_the_rule_is_the_same",),
    ),
    Mutant(
        "events: the source's token",
        _EVENTS,
        "WHERE name = :name AND deleted_at IS NULL AND token_sha256 = :digest",
        "WHERE name = :name AND deleted_at IS NULL",
        (f"{_RULE_TESTS}::test_sources_are_known_by_their_token_and_forgotten_events_go",),
    ),
    Mutant(
        "outputs: not before the last page",
        _OUTPUTS,
        "WHERE p.item_id = i.id AND (p.state IN ('ready', 'dispatched', 'running', 'canceled') OR o.seq > :last))",
        "WHERE p.item_id = i.id AND o.seq > :last)",
        (f"{_WRITES}::test_pages_are_in_order_however_they_ended_and_nothing_is_written_before_the_last",),
    ),
    Mutant(
        "outputs: once for each end",
        _OUTPUTS,
        "AND (p.state IN ('ready', 'dispatched', 'running', 'canceled') OR o.seq > :last))",
        "AND p.state IN ('ready', 'dispatched', 'running', 'canceled'))",
        (f"{_WRITES}::test_each_end_of_an_item_is_written_once_however_small_the_chunks",),
    ),
    Mutant(
        "outputs: a redriven job is looked at again",
        "ocrfleet/store/redrives.py",
        "WHEN j.output ->> 'per_item' = 'true' THEN coalesce(j.output_leased_until, now()) END",
        "WHEN j.output ->> 'per_item' = 'true' THEN j.output_leased_until END",
        (f"{_WRITES}::test_a_page_that_was_redriven_writes_its_item_anew",),
    ),
    Mutant(
        "outputs: a lease is one producer's",
        _OUTPUTS,
        "WHERE output_leased_until <= now() AND purged_at IS NULL",
        "WHERE output_leased_until IS NOT NULL AND purged_at IS NULL",
        (f"{_WRITES}::test_a_crash_after_writing_repeats_the_same_bytes",),
    ),
    Mutant(
        "outputs: what was read before the rest was canceled",
        _OUTPUTS,
        "AND (result_seq > output_seq OR ({_OVER} AND {_CUT}))",
        "AND result_seq > output_seq",
        (f"{_ENDS}::test_what_was_read_of_an_object_is_written_when_the_rest_is_canceled",),
    ),
    Mutant(
        "outputs: a canceled page that still runs",
        _OUTPUTS,
        " AND succeeded + dead + canceled = total",
        "",
        (f"{_ENDS}::test_a_page_that_is_canceled_as_it_runs_is_waited_for",),
    ),
    Mutant(
        "outputs: nothing empty of a deleted job",
        "producer/item_outputs.py",
        "if written >= item.lines and self._is_there(job):",
        "if written >= 0:",
        (f"{_ENDS}::test_a_job_that_is_deleted_meanwhile_writes_nothing_empty",),
    ),
    Mutant(
        "outputs: a fault of our own gives the lease back",
        "producer/item_outputs.py",
        "            self._failed = job\n",
        "",
        (f"{_ENDS}::test_a_fault_of_our_own_is_tried_again_soon",),
    ),
    Mutant(
        "events: old news brings no old version back",
        _OBJECTS,
        'one.sequencer.ljust(size, "0") < other.sequencer.ljust(size, "0")',
        "False",
        (f"{_OBJECT_TESTS}::test_old_news_brings_no_old_version_back",),
    ),
    Mutant(
        "events: old news by its time",
        _OBJECTS,
        "return one.at is not None and other.at is not None and one.at < other.at",
        "return False",
        (f"{_OBJECT_TESTS}::test_old_news_brings_no_old_version_back",),
    ),
    Mutant(
        "events: of a version that is there again its place is remembered",
        _OBJECTS,
        "    remember(session, rule_id, again)\n",
        "",
        (f"{_OBJECT_TESTS}::test_old_news_brings_no_old_version_back",),
    ),
    Mutant(
        "events: the listing that goes on lets others go first",
        _RULES,
        "ORDER BY greatest(rescan_at, leased_until)",
        "ORDER BY rescan_at",
        (f"{_RULE_TESTS}::test_a_listing_that_goes_on_waits_for_the_others_that_are_due",),
    ),
    Mutant(
        "events: of a deleted source",
        _ROLLING,
        "WHERE s.deleted_at IS NULL AND NOT EXISTS (",
        "WHERE NOT EXISTS (",
        (f"{_RULE_TESTS}::test_what_a_deleted_source_has_told_is_seen_no_more_and_taken_away_step_by_step",),
    ),
)
