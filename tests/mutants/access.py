"""The guards of who may: scopes, tenants, quotas, usage, and requests that are sent twice."""

from tests.mutants.mutant import Mutant

_SCOPES = "tests/flow/api/test_api_scopes.py::"
_TENANCY = "tests/flow/api/test_api_tenancy.py::"
_QUOTAS = "tests/store/test_quotas.py::"
_USAGE = "tests/store/test_usage.py::"
_TWICE = "tests/flow/api/test_api_idempotency.py::"
ACCESS = (
    Mutant(
        "scopes: a key does what it names",
        "api/scopes.py",
        "    if scope is not None and scope not in caller.scopes:\n",
        "    if scope is not None and not caller.scopes:\n",
        (f"{_SCOPES}test_a_key_reaches_what_its_scope_names_and_nothing_else",),
    ),
    Mutant(
        "scopes: a route that was forgotten is closed",
        "api/scopes.py",
        "if is_known(method, path) else FLEET",
        "if is_known(method, path) else READ",
        (f"{_SCOPES}test_a_route_that_was_forgotten_is_for_the_fleet_alone",),
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
        "idempotency: fewer scopes see no kept answer",
        "api/idempotency.py",
        ", *sorted(caller.scopes))",
        ")",
        (f"{_TWICE}test_a_key_of_fewer_scopes_sees_no_kept_answer",),
    ),
)
