"""The guards of what is done again: requests whose API died, turns that came to nothing, leases that run out, sums."""

from tests.mutants.mutant import Mutant

_ONCE = "tests/flow/api/test_api_made_once.py::"
_USAGE = "tests/store/test_usage.py::"
_FAULTS = "tests/flow/test_batch_faults.py::"
_IMAGES = "tests/flow/test_batch_images.py::"
_COUNTER = "tests/flow/test_counter.py::"
AGAIN = (
    Mutant(
        "once: redrives",
        "api/redrives.py",
        "asked.reason, new_id)",
        "asked.reason)",
        (f"{_ONCE}test_what_was_made_is_found", f"{_ONCE}test_a_retry_of_a_job_is_found"),
    ),
    Mutant(
        "once: webhooks",
        "api/webhooks.py",
        "            if made := webhooks.find(session, caller.tenant_id, new_id):\n                return made\n",
        "",
        (
            f"{_ONCE}test_what_was_made_is_found",
            f"{_ONCE}test_the_last_webhook_that_a_tenant_may_have_is_found",
        ),
    ),
    Mutant(
        "once: rules",
        "api/bucket_rules.py",
        "        body.rescan_seconds,\n        new_id,\n",
        "        body.rescan_seconds,\n",
        (f"{_ONCE}test_what_was_made_is_found",),
    ),
    Mutant(
        "once: tenants",
        "api/tenants.py",
        "tenant_id=new_id",
        "tenant_id=None",
        (f"{_ONCE}test_what_was_made_is_found",),
    ),
    Mutant(
        "once: keys",
        "api/keys.py",
        "request_id=new_id",
        "request_id=None",
        (f"{_ONCE}test_a_secret_whose_hash_alone_is_known_is_not_shown_again",),
    ),
    Mutant(
        "once: event sources",
        "api/event_sources.py",
        "request_id=new_id",
        "request_id=None",
        (f"{_ONCE}test_a_secret_whose_hash_alone_is_known_is_not_shown_again",),
    ),
    Mutant(
        "usage: interactive jobs are one",
        "ocrfleet/store/usage.py",
        "f\"CASE WHEN u.interactive THEN '{NO_JOB}' ELSE u.job_id END\"",
        '"u.job_id"',
        (f"{_USAGE}test_pages_read_one_by_one_become_one_row_of_their_tenant_and_day",),
    ),
    Mutant(
        "usage: no flush waits for the fold",
        "ocrfleet/store/usage.py",
        "        FOR UPDATE SKIP LOCKED)) RETURNING *",
        "        )) RETURNING *",
        (f"{_USAGE}test_a_page_that_is_being_settled_is_folded_later",),
    ),
    Mutant(
        "usage: it is folded",
        "producer/sweep.py",
        "            usage.fold(session)\n",
        "            pass\n",
        ("tests/flow/test_sweeper.py::test_a_sweep_folds_the_usage_of_interactive_jobs",),
    ),
    Mutant(
        "uploads: one that is refused holds up no other",
        "producer/uploads.py",
        "    except StorageUnavailable:\n        raise\n    except FleetError as exc:\n",
        "    except StorageUnavailable as exc:\n",
        ("tests/flow/api/test_api_uploads.py::test_an_upload_that_the_store_refuses_holds_up_no_other",),
    ),
    Mutant(
        "uploads: what is gone with its bucket is cleared",
        "producer/uploads.py",
        "        # Its bucket is gone.\n        return True\n",
        "        return False\n",
        ("tests/flow/api/test_api_uploads.py::test_an_upload_that_the_store_refuses_holds_up_no_other",),
    ),
    Mutant(
        "batches: a turn is given back as it was renewed",
        "producer/batch_turn.py",
        "        self.turn = replace(self.turn, leased_until=until)\n",
        "        replace(self.turn, leased_until=until)\n",
        (f"{_FAULTS}test_a_turn_whose_lease_was_renewed_is_given_back_at_once",),
    ),
    Mutant(
        "batches: an image is put once",
        "producer/batch_reading.py",
        "        if key not in self._there:\n",
        "        if key:\n",
        (f"{_FAULTS}test_images_that_are_there_are_not_put_again",),
    ),
    Mutant(
        "batches: not for ever",
        "producer/batches.py",
        "        if self._faults[batch_id] < _MAX_FAULTS:\n",
        "        if self._faults:\n",
        (f"{_FAULTS}test_a_fault_of_ours_fails_the_batch_after_some_tries",),
    ),
    Mutant(
        "batches: faults are counted in a row",
        "producer/batches.py",
        "            self._faults.pop(turn.id, None)\n",
        "",
        (f"{_FAULTS}test_tries_that_ended_well_are_not_counted",),
    ),
    Mutant(
        "batches: what is gone does not come back",
        "producer/batches.py",
        "            held.fail(fault(exc.code, exc.detail))\n",
        "            held.postpone(_RETRY_AFTER)\n",
        (f"{_FAULTS}test_what_cannot_be_written_down_for_good_fails_the_batch",),
    ),
    Mutant(
        "batches: what callers read stays",
        "producer/batches.py",
        "        if not info.key.endswith(WRITTEN):\n            yield info.key\n",
        "        yield info.key\n",
        (f"{_IMAGES}test_manifests_go_with_them_and_what_callers_read_stays",),
    ),
    Mutant(
        "batches: manifests go",
        "producer/batches.py",
        "    for info in blobs.scan(bucket, own_prefix(batch_id)):\n",
        "    for info in ():\n",
        (f"{_IMAGES}test_manifests_go_with_them_and_what_callers_read_stays",),
    ),
    Mutant(
        "batches: what is gone with its bucket is cleared",
        "producer/batches.py",
        "            except InputNotFound:\n",
        "            except ZeroDivisionError:\n",
        (f"{_IMAGES}test_what_is_gone_with_its_bucket_is_asked_for_once",),
    ),
    Mutant(
        "count: a lease holds while an item waits",
        "producer/count.py",
        "            if time.monotonic() >= renewed + self._lease_seconds / 3:\n",
        "            if time.monotonic() < renewed:\n",
        (f"{_COUNTER}test_an_item_is_leased_for_as_long_as_it_waits_and_is_counted",),
    ),
    Mutant(
        "count: a long one holds up no other",
        "producer/count.py",
        "            if len(counting) < self._at_once and time.monotonic() < until:\n",
        "            if not counting and time.monotonic() < until:\n",
        (f"{_COUNTER}test_while_one_is_counted_long_others_are_leased_and_counted",),
    ),
)
