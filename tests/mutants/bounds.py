"""The guards of bounds and fairness: endless manifests, whose turn it is, quotas of rules, and threads that die."""

from tests.mutants.mutant import Mutant

_MANIFESTS = "tests/unit/test_manifests.py::"
_EXPANDER = "tests/flow/test_expander.py::"
_COUNTING = "tests/store/test_counting.py::"
_QUOTAS = "tests/store/test_rolling_quotas.py::"
_RESCAN = "tests/flow/test_rescan.py::"
_PRODUCER = "tests/flow/test_producer.py::"

BOUNDS = (
    Mutant(
        "manifests: lines without end",
        "ocrfleet/manifests.py",
        "    if length > LONGEST:\n",
        "    if length < 0:\n",
        (f"{_MANIFESTS}test_lines_without_end_fail_the_job_and_cost_no_memory",),
    ),
    Mutant(
        "manifests: what they inflate to",
        "ocrfleet/manifests.py",
        "if inflated > (limit := max(FREE, RATIO * packed)):",
        "if inflated > (limit := 2**60):",
        (f"{_MANIFESTS}test_gzip_data_of_nothing_are_given_up",),
    ),
    Mutant(
        "manifests: a turn for each piece",
        "ocrfleet/manifests.py",
        "        if not lines:\n",
        "        if lines and not lines:\n",
        (
            f"{_MANIFESTS}test_the_reader_has_its_turn_with_each_piece_however_long_a_line_is",
            f"{_EXPANDER}test_a_lease_is_renewed_while_what_was_read_is_skipped",
        ),
    ),
    Mutant(
        "manifests: a chunk for each beat",
        "ocrfleet/inputs.py",
        "if number % size == 0 or time.monotonic() >= due:",
        "if number % size == 0:",
        (f"{_MANIFESTS}test_what_is_skipped_comes_as_empty_chunks_that_move_nothing",),
    ),
    Mutant(
        "expansion: a turn begins with what is new",
        "producer/expand.py",
        "        began, until = time.monotonic(), math.inf\n",
        "        began, until = time.monotonic(), time.monotonic() + TURN_SECONDS\n",
        (f"{_EXPANDER}test_a_turn_does_not_begin_before_all_is_skipped_that_was_read",),
    ),
    Mutant(
        "expansion: what is skipped makes no fault good",
        "producer/expand.py",
        "                if moved:\n",
        "                if chunk:\n",
        (f"{_EXPANDER}test_what_is_skipped_makes_no_fault_good",),
    ),
    Mutant(
        "counting: fair to every tenant",
        "ocrfleet/store/counting.py",
        "PARTITION BY tenant_id ORDER BY state",
        "ORDER BY state",
        (f"{_COUNTING}test_a_tenant_with_many_jobs_holds_up_no_other",),
    ),
    Mutant(
        "counting: any of more tenants than items",
        "ocrfleet/store/counting.py",
        "ORDER BY place, random()",
        "ORDER BY place, id",
        (f"{_COUNTING}test_with_more_tenants_than_items_each_has_its_turn",),
    ),
    Mutant(
        "rules: no job over the quota",
        "ocrfleet/store/rolling.py",
        "    if tenant not in slots:\n",
        "    if tenant:\n",
        (
            f"{_QUOTAS}test_an_open_job_takes_what_it_has_room_for_and_the_rest_waits",
            f"{_RESCAN}test_what_would_open_a_job_over_the_quota_is_found_again_when_there_is_room",
        ),
    ),
    Mutant(
        "rules: what waits for a quota holds up nobody else",
        "ocrfleet/store/rolling.py",
        "    WHERE r.enabled AND {quotas.FULL}",
        "    WHERE false AND {quotas.FULL}",
        (f"{_QUOTAS}test_what_waits_for_a_quota_holds_up_no_other_tenant",),
    ),
    Mutant(
        "rules: an event waits with what it told of",
        "ocrfleet/store/rolling.py",
        "handled = [e.id for e in events if (e.tenant_id, e.bucket, e.key, e.etag) not in left]",
        "handled = [e.id for e in events]",
        (f"{_QUOTAS}test_an_open_job_takes_what_it_has_room_for_and_the_rest_waits",),
    ),
    Mutant(
        "rescan: goes on before what was left",
        "producer/rescan.py",
        "cursor, seconds = _before(rule, found, taken, cursor), QUOTA_SECONDS",
        "seconds = QUOTA_SECONDS",
        (f"{_RESCAN}test_what_would_open_a_job_over_the_quota_is_found_again_when_there_is_room",),
    ),
    Mutant(
        "producer: a step of cleaning that fails is alone",
        "producer/cleaning.py",
        "        except Exception:\n",
        "        except NotImplementedError:\n",
        (
            f"{_PRODUCER}test_a_step_of_cleaning_that_fails_keeps_no_other_from_being_done",
            f"{_PRODUCER}test_uploads_expire_though_other_cleaning_fails",
        ),
    ),
    Mutant(
        "producer: ends when a thread has died",
        "producer/crew.py",
        "            if not self._stop.is_set():\n",
        "            if self._stop.is_set():\n",
        (f"{_PRODUCER}test_a_thread_that_ends_before_its_time_ends_all",),
    ),
    Mutant(
        "batches: no value makes an error's line long",
        "producer/chat.py",
        "{repr(value)[:60]}",
        "{value!r}",
        ("tests/unit/test_chat_lines.py::test_what_is_said_of_a_value_is_short_however_long_that_is",),
    ),
)
