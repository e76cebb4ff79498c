"""The guards of bucket events, their rules and jobs, and of outputs per item."""

from tests.mutants.mutant import Mutant

_ROLLING = "ocrfleet/store/rolling.py"
_RULES = "ocrfleet/store/rules.py"
_EVENTS = "ocrfleet/store/events.py"
_OUTPUTS = "ocrfleet/store/item_outputs.py"
_TESTS = "tests/store/test_rolling.py"
_RULE_TESTS = "tests/store/test_rules.py"
_WRITES = "tests/flow/test_item_outputs.py"

EVENTS = (
    Mutant(
        "events: each version once",
        _ROLLING,
        "return [one for named, one in meant.items() if named not in taken]",
        "return list(meant.values())",
        (f"{_TESTS}::test_the_same_event_is_kept_once_and_the_same_version_taken_once",),
    ),
    Mutant(
        "events: own outputs are left out",
        _ROLLING,
        "if rule.matches(one.key) and not own.include(rule.tenant_id, one.key)",
        "if rule.matches(one.key)",
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
        "WHERE name = :name AND token_sha256 = :digest",
        "WHERE name = :name",
        (f"{_RULE_TESTS}::test_sources_are_known_by_their_token_and_forgotten_events_go",),
    ),
    Mutant(
        "outputs: not before the last page",
        _OUTPUTS,
        "WHERE p.item_id = i.id AND (p.state IN ('ready', 'dispatched', 'running') OR o.seq > :last))",
        "WHERE p.item_id = i.id AND o.seq > :last)",
        (f"{_WRITES}::test_pages_are_in_order_however_they_ended_and_nothing_is_written_before_the_last",),
    ),
    Mutant(
        "outputs: once for each end",
        _OUTPUTS,
        "AND (p.state IN ('ready', 'dispatched', 'running') OR o.seq > :last))",
        "AND p.state IN ('ready', 'dispatched', 'running'))",
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
        "WHERE output_leased_until <= now() AND result_seq > output_seq",
        "WHERE output_leased_until IS NOT NULL AND result_seq > output_seq",
        (f"{_WRITES}::test_a_crash_after_writing_repeats_the_same_bytes",),
    ),
)
