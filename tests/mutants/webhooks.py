"""The guards of webhooks: who is told, how often, and where to."""

from tests.mutants.mutant import Mutant

_STORE = "tests/store/test_deliveries.py::"
_HOOKS = "tests/store/test_webhooks.py::"
_SEND = "tests/flow/test_deliverer.py::"
_OUT = "tests/unit/test_outbound.py::"
_ASKED = "tests/flow/api/test_api_webhooks.py::test_webhooks_are_asked_for_before_a_job_is_made_too"
WEBHOOKS = (
    Mutant(
        "webhooks: a deletion does not fail a job's end",
        "ocrfleet/store/deliveries.py",
        "WHERE {where} FOR KEY SHARE OF w\n",
        "WHERE {where}\n",
        (f"{_STORE}test_a_webhook_that_is_being_deleted_does_not_fail_the_end_of_a_job",),
    ),
    Mutant(
        "webhooks: only those of the tenant",
        "ocrfleet/store/deliveries.py",
        "JOIN webhooks w ON w.tenant_id = j.tenant_id AND w.enabled",
        "JOIN webhooks w ON w.enabled",
        (f"{_STORE}test_each_webhook_is_sent_what_it_takes_and_what_names_it",),
    ),
    Mutant(
        "webhooks: a lease that has run out writes nothing",
        "ocrfleet/store/deliveries.py",
        "WHERE id = :id AND leased_until = :lease AND state = 'waiting' RETURNING 1",
        "WHERE id = :id AND CAST(:lease AS timestamptz) IS NOT NULL RETURNING 1",
        (f"{_STORE}test_a_message_is_leased_once_and_again_when_nobody_has_settled_it",),
    ),
    Mutant(
        "webhooks: so many at a time to one receiver",
        "ocrfleet/store/deliveries.py",
        "LIMIT greatest(CAST(:each AS integer) - coalesce((SELECT n FROM busy WHERE busy.id = w.id), 0), 0)",
        "LIMIT greatest(CAST(:each AS integer), 1000000)",
        (f"{_STORE}test_a_long_queue_holds_up_no_other", f"{_SEND}test_one_dead_receiver_holds_up_no_other"),
    ),
    Mutant(
        "webhooks: half of the slots to one tenant",
        "ocrfleet/store/deliveries.py",
        "WHERE waiting.turn <= :tenant AND d.state",
        "WHERE :tenant > 0 AND d.state",
        (f"{_STORE}test_a_long_queue_holds_up_no_other",),
    ),
    Mutant(
        "webhooks: what waits is not forgotten",
        "ocrfleet/store/deliveries.py",
        "              AND (state <> 'waiting' OR next_at < now() - make_interval(secs => :seconds))\n",
        "",
        (f"{_HOOKS}test_old_deliveries_are_forgotten_but_not_those_that_wait",),
    ),
    Mutant(
        "webhooks: none is disabled while messages arrive",
        "ocrfleet/store/webhooks.py",
        "d.state = 'delivered' AND d.delivered_at > :since",
        "false",
        (f"{_HOOKS}test_faults_disable_unless_something_has_arrived_since",),
    ),
    Mutant(
        "webhooks: one that is disabled is sent nothing",
        "ocrfleet/store/webhooks.py",
        '            _drop_waiting(session, webhook_id, "the webhook was disabled")\n',
        "            pass\n",
        (f"{_HOOKS}test_a_webhook_that_is_disabled_is_sent_nothing_more_until_it_is_replayed",),
    ),
    Mutant(
        "webhooks: 410 ends it",
        "producer/deliver.py",
        "elif answer.status == GONE:",
        "elif answer.status == -GONE:",
        (f"{_SEND}test_a_receiver_that_is_gone_is_asked_no_more",),
    ),
    Mutant(
        "webhooks: not before the receiver wishes",
        "producer/deliver.py",
        "max(self._delays[due.attempts], answer.retry_after)",
        "self._delays[due.attempts]",
        (f"{_SEND}test_the_schedule_is_kept_and_the_receivers_wish_too",),
    ),
    Mutant(
        "outbound: every address of a name is checked",
        "ocrfleet/outbound.py",
        "if not all(is_allowed(address",
        "if not any(is_allowed(address",
        (f"{_OUT}test_a_name_with_an_address_inside_is_refused",),
    ),
    Mutant(
        "outbound: checked again at every sending",
        "ocrfleet/outbound.py",
        "for address in (await self._outbound.addresses(host))[:_ADDRESSES_AT_MOST]:",
        "for address in (await self._outbound._resolver.resolve(host))[:_ADDRESSES_AT_MOST]:",
        (
            f"{_OUT}test_a_name_that_moves_inside_after_it_was_checked_is_refused",
            f"{_SEND}test_a_name_that_moves_inside_is_not_delivered_to",
        ),
    ),
    Mutant(
        "outbound: the connection is to what was checked",
        "ocrfleet/outbound.py",
        "                    address, port, timeout or",
        "                    host, port, timeout or",
        (f"{_OUT}test_the_receiver_gets_the_body_and_the_name_that_was_asked_for",),
    ),
    Mutant(
        "outbound: a cloud's metadata is never allowed",
        "ocrfleet/addresses.py",
        "    if _within(address, _NEVER):\n        return False\n",
        "",
        ("tests/unit/test_addresses.py::test_a_clouds_metadata_is_never_called",),
    ),
    Mutant(
        "signatures: what is old is refused",
        "ocrfleet/webhooks.py",
        "if abs(age) > tolerance:",
        "if age == tolerance + 0.5:",
        ("tests/unit/test_webhook_signatures.py::test_what_is_old_or_from_the_future_is_refused",),
    ),
    Mutant(
        "waiting: a change before the wait is seen",
        "api/waiting.py",
        "if job.ended or waiter.seen not in (None, job.version):",
        "if job.ended:",
        ("tests/flow/api/test_api_waiting.py::test_polling_finds_a_change_that_who_waits_has_not_seen",),
    ),
    Mutant(
        "jobs: webhooks that they name are the tenant's",
        "api/jobs.py",
        "        rules.check_webhooks(session, caller.tenant_id, body.webhook_ids)\n        jobs.create",
        "        jobs.create",
        ("tests/flow/api/test_api_webhooks.py::test_a_job_names_webhooks_that_are_there",),
    ),
    Mutant(
        "jobs: webhooks are asked for before one is made",
        "api/jobs.py",
        "            rules.check_webhooks(session, caller.tenant_id, body.webhook_ids)\n",
        "            pass\n",
        (_ASKED,),
    ),
    Mutant(
        "bucket rules: webhooks that they name are the tenant's",
        "api/bucket_rules.py",
        "            rules.check_webhooks(session, caller.tenant_id, body.job.webhook_ids, _WEBHOOKS)\n            rule_id",
        "            rule_id",
        (_ASKED,),
    ),
    Mutant(
        "bucket rules: also after a change",
        "api/bucket_rules.py",
        "                rules.check_webhooks(session, caller.tenant_id, body.job.webhook_ids, _WEBHOOKS)\n            store.change",
        "            store.change",
        (_ASKED,),
    ),
)
