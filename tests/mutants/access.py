"""The guards of who may: scopes, tenants, quotas, usage, and requests that are sent twice."""

from tests.mutants.mutant import Mutant

_SCOPES = "tests/flow/api/test_api_scopes.py::"
_TENANCY = "tests/flow/api/test_api_tenancy.py::"
_QUOTAS = "tests/store/test_quotas.py::"
_USAGE = "tests/store/test_usage.py::"
_KEYS = "tests/store/test_tenants.py::"
_OCR = "tests/flow/api/test_api_ocr_quota.py::"
_SENT = "tests/unit/test_sdk_uploads.py::"
_TWICE = "tests/flow/api/test_api_idempotency.py::"
_RESULTS = "tests/flow/api/test_api_results.py::"
_TEXTS = "tests/flow/api/test_api_texts.py::"
ACCESS = (
    Mutant(
        "scopes: a key does what it names",
        "api/scopes.py",
        "    if scope not in caller.scopes:\n",
        "    if not caller.scopes:\n",
        (f"{_SCOPES}test_a_key_reaches_what_its_scope_names_and_nothing_else",),
    ),
    Mutant(
        "keys: none outlives the one that made it",
        "api/keys.py",
        "    return wanted or own\n",
        "    return wanted\n",
        ("tests/flow/api/test_api_access.py::test_a_key_gives_none_on_that_outlives_it",),
    ),
    Mutant(
        "scopes: a route that was forgotten is closed",
        "api/scopes.py",
        "method == known and pattern.fullmatch(path))",
        "method == known and pattern.match(path))",
        (f"{_SCOPES}test_a_route_that_was_forgotten_is_closed_to_everybody",),
    ),
    Mutant(
        "quotas: pages under way count",
        "ocrfleet/store/quotas.py",
        "row.pages_per_day - row.pages - row.flying",
        "row.pages_per_day - row.pages",
        (f"{_QUOTAS}test_pages_that_ended_today_and_those_under_way_count",),
    ),
    Mutant(
        "quotas: bytes of the day",
        "ocrfleet/store/quotas.py",
        "row.bytes >= row.bytes_per_day:\n",
        "row.bytes < 0:\n",
        (f"{_QUOTAS}test_bytes_stop_what_comes_after_them",),
    ),
    Mutant(
        "quotas: a page that is read at once needs no place",
        "ocrfleet/store/quotas.py",
        "OPEN = \"lane = 'bulk' AND finished_at IS NULL\"",
        'OPEN = "finished_at IS NULL"',
        (f"{_QUOTAS}test_a_paused_job_keeps_its_place_and_a_page_read_at_once_needs_none",),
    ),
    Mutant(
        "quotas: an image that would wait for tomorrow is refused",
        "api/ocr.py",
        "    check_day(services.liveness.get(), caller.tenant_id)\n",
        "",
        (f"{_OCR}test_over_the_quota_of_the_day_it_is_refused_at_once_and_no_job_is_made",),
    ),
    Mutant(
        "ocr: no tenant fills the window while there are others",
        "api/rules.py",
        "    if actual < limit and unfinished.shared:\n",
        "    if False:\n",
        (f"{_OCR}test_a_tenant_has_its_share_of_the_window_and_leaves_the_rest_to_others",),
    ),
    Mutant(
        "ocr: what nobody waits for ends",
        "api/ocr.py",
        "config.async_wait if preference.respond_async",
        "86400.0 if preference.respond_async",
        (f"{_OCR}test_a_page_that_nobody_waits_for_has_a_deadline_too",),
    ),
    Mutant(
        "keys: who guesses hears nothing of one that has ended",
        "ocrfleet/store/tenants.py",
        "if row is None or not secrets",
        "if row is None or not (row.revoked_at or row.has_expired) and not secrets",
        (f"{_KEYS}test_a_key_that_has_ended_says_so_only_to_who_has_its_secret",),
    ),
    Mutant(
        "uploads: the store is not shown our key",
        "ocrfleet/client/transports.py",
        "        if not send.path.startswith(_ADDRESSES):\n            return self._http\n        proxy = _may_use_proxy(send.path)\n        with",
        "        if self._http:\n            return self._http\n        proxy = _may_use_proxy(send.path)\n        with",
        (f"{_SENT}test_the_store_is_not_shown_our_key",),
    ),
    Mutant(
        "usage: written where outcomes are",
        "ocrfleet/store/outcomes.py",
        "    usage.add(session, tallies)\n",
        "",
        (f"{_USAGE}test_what_pages_took_is_summed_by_job_in_the_transaction_that_settles_them",),
    ),
    Mutant(
        "idempotency: a key of one request is no other's",
        "api/idempotency.py",
        "    if kept.request_sha256 != digest:\n",
        "    if not kept.request_sha256:\n",
        (f"{_TWICE}test_the_key_with_another_request_is_refused",),
    ),
    Mutant(
        "idempotency: an answer under way is not given twice",
        "ocrfleet/store/idempotency.py",
        "       AND (k.claimed_at IS NULL OR k.claimed_at < now() - make_interval(secs => :stale)))\n",
        "       )\n",
        (f"{_TWICE}test_while_the_first_is_being_answered_the_second_waits",),
    ),
    Mutant(
        "idempotency: what a dead process made is found",
        "api/idempotency.py",
        '    return getattr(request.state, "resource_id", None) or uuid4()\n',
        "    return uuid4()\n",
        (f"{_TWICE}test_while_the_first_is_being_answered_the_second_waits",),
    ),
    Mutant(
        "idempotency: secrets are not kept",
        "api/idempotency.py",
        "        return None if secret else body\n",
        "        return body\n",
        (f"{_TWICE}test_a_secret_is_not_kept",),
    ),
    Mutant(
        "idempotency: a claim that another may have had stays",
        "ocrfleet/store/idempotency.py",
        " AND claimed_at = created_at",
        "",
        (f"{_TWICE}test_what_somebody_else_may_have_made_stays_findable_when_it_is_refused",),
    ),
    Mutant(
        "idempotency: a refusal leaves no row",
        "api/idempotency.py",
        "made_nothing=answer.status < 500",
        "made_nothing=False",
        (f"{_TWICE}test_who_may_not_or_asks_too_often_leaves_nothing",),
    ),
    Mutant(
        "results: a tenant follows so many streams",
        "api/waiting.py",
        ">= self._of_tenant:\n",
        "< 0:\n",
        (f"{_RESULTS}test_followers_have_so_many_places_and_each_leaves_its_own_again",),
    ),
    Mutant(
        "results: a stream that ends leaves its place",
        "api/waiting.py",
        "            self._open[tenant_id] -= 1\n",
        "",
        (f"{_RESULTS}test_followers_have_so_many_places_and_each_leaves_its_own_again",),
    ),
    Mutant(
        "results: who follows waits for a change",
        "api/results.py",
        "found.job.version, _SILENCE)",
        "found.job.version, 0.1)",
        (f"{_RESULTS}test_a_follower_of_a_job_that_stands_still_reads_nothing",),
    ),
    Mutant(
        "texts: half a surrogate pair is refused",
        "ocrfleet/texts.py",
        "    if not value.isascii():\n",
        "    if False:\n",
        (f"{_TEXTS}test_half_a_surrogate_pair_is_refused_with_its_place",),
    ),
    Mutant(
        "texts: what is refused can be told",
        "api/problems.py",
        '    return text.encode(errors="backslashreplace").decode()\n',
        "    return text\n",
        (f"{_TEXTS}test_a_form_in_another_encoding_cannot_say_it_either",),
    ),
    Mutant(
        "access: a stranger's body is not read",
        "api/app.py",
        "    app.add_middleware(Access)\n",
        "",
        (f"{_SCOPES}test_a_stranger_and_a_key_without_the_scope_are_refused_before_the_body_is_read",),
    ),
    Mutant(
        "idempotency: fewer scopes see no kept answer",
        "api/idempotency.py",
        ", *sorted(caller.scopes))",
        ")",
        (f"{_TWICE}test_a_key_of_fewer_scopes_sees_no_kept_answer",),
    ),
)
