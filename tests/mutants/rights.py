"""The guards of buckets: what a tenant may read and write, and a name that stops no other."""

from tests.mutants.mutant import Mutant

_RIGHTS, _UNIT = "ocrfleet/rights.py", "tests/unit/test_rights.py::"
_READ, _WRITTEN = "tests/flow/test_rights_read.py::", "tests/flow/test_rights_written.py::"
_API = "tests/flow/api/test_api_buckets.py::"
RIGHTS = (
    Mutant(
        "rights: keys are read as stores clean them",
        _RIGHTS,
        "    if not _ODD.search(key):\n",
        "    if key:\n",
        (
            f"{_UNIT}test_what_our_bucket_keeps_is_nobodys_in_any_spelling",
            f"{_READ}test_what_is_anothers_in_our_bucket_is_refused_in_any_spelling",
            f"{_READ}test_events_bring_nothing_that_the_tenant_may_not_read",
            f"{_WRITTEN}test_an_export_takes_nothing_away_from_our_own_places",
            f"{_API}test_a_rule_for_what_is_ours_is_refused_in_any_spelling",
        ),
    ),
    Mutant(
        "rights: a key is permitted in all its readings",
        _RIGHTS,
        "return all(self._may_read(",
        "return any(self._may_read(",
        (f"{_UNIT}test_a_list_of_buckets_is_all_that_there_is",),
    ),
    Mutant(
        "rights: a list of buckets is all that there is",
        _RIGHTS,
        '("",) if self.buckets is None else tuple(map(_right, self.buckets))',
        '("",)',
        (
            f"{_UNIT}test_a_list_of_buckets_is_all_that_there_is",
            f"{_READ}test_each_line_outside_the_tenants_buckets_is_that_lines_error",
            f"{_READ}test_a_redrive_reads_nothing_that_the_tenant_may_not",
            f"{_WRITTEN}test_an_export_to_its_own_place_is_written_whatever_the_rights",
        ),
    ),
    Mutant(
        "rights: a bucket is no prefix of another's name",
        _RIGHTS,
        'return named if "/" in named else f"{named}/"',
        "return named",
        (f"{_UNIT}test_a_list_of_buckets_is_all_that_there_is",),
    ),
    Mutant(
        "rights: a job is refused as a whole before it is made",
        "api/jobs.py",
        "    inputs.check(given, rights)\n",
        "",
        (f"{_API}test_a_job_reads_the_tenants_buckets_only",),
    ),
    Mutant(
        "rights: results go where the tenant may write",
        "api/jobs.py",
        "    buckets.check_output(rights, output, given)\n",
        "",
        (f"{_API}test_results_are_never_written_among_ours",),
    ),
    Mutant(
        "rights: exports go where the tenant may write",
        "api/exports.py",
        '        buckets.check_written(rights, bucket, prefix, "/prefix")\n',
        "",
        (f"{_API}test_an_export_is_never_written_among_ours",),
    ),
    Mutant(
        "rights: the producer asks again for the input",
        "producer/expand.py",
        "        check(leased.input, rights, ours=True)\n",
        "",
        (f"{_READ}test_a_right_that_was_taken_back_ends_the_job",),
    ),
    Mutant(
        "rights: events and listings too",
        "ocrfleet/store/rolling.py",
        "if held[rule.tenant_id].may_read(rule.bucket, one.key)]",
        "if one.key]",
        (
            f"{_READ}test_a_rescan_takes_what_is_covered_and_the_rest_once_it_is",
            f"{_READ}test_events_bring_nothing_that_the_tenant_may_not_read",
        ),
    ),
    Mutant(
        "rights: nobody learns what lies elsewhere",
        "producer/existing.py",
        "for place in places if rights.may_write(*place)}",
        "for place in places}",
        (f"{_READ}test_nobody_learns_what_lies_where_he_may_not_write",),
    ),
    Mutant(
        "rights: an export begins where it may write",
        "producer/exports/run.py",
        "        _check_own(export, rights)\n",
        "",
        (f"{_WRITTEN}test_an_export_takes_nothing_away_from_our_own_places",),
    ),
    Mutant(
        "rights: each key of an export",
        "producer/exports/base.py",
        "        self._rights.check_writable(self.export.bucket, whole)\n",
        "",
        (f"{_WRITTEN}test_a_key_that_falls_among_ours_is_that_inputs_error",),
    ),
    Mutant(
        "rights: a PDF is made of what may be read",
        "producer/exports/pdf.py",
        "        work.check_readable(item)\n",
        "",
        (f"{_WRITTEN}test_a_pdf_is_not_made_of_what_the_tenant_may_read_no_more",),
    ),
    Mutant(
        "rights: each result of an item",
        "producer/item_outputs.py",
        "        if not held.may_write(bucket, key):\n",
        "        if not bucket:\n",
        (f"{_WRITTEN}test_what_is_anothers_is_never_written_over",),
    ),
    Mutant(
        "names: an impossible one is its item's error",
        "producer/item_outputs.py",
        "        except CallerError as exc:\n            return exc\n        return None\n",
        "        except CallerError:\n            raise\n        return None\n",
        (
            f"{_WRITTEN}test_a_name_that_no_store_holds_is_that_items_error",
            f"{_WRITTEN}test_a_bucket_that_a_line_has_misspelt_holds_up_no_other",
        ),
    ),
    Mutant(
        "names: an export goes on without it",
        "producer/exports/base.py",
        "            if isinstance(exc.error, BadName):\n",
        "            if exc.error is None:\n",
        (f"{_WRITTEN}test_a_name_that_no_store_holds_fails_that_input_alone",),
    ),
    Mutant(
        "rules: passwords are kept to ourselves",
        "ocrfleet/store/rules.py",
        '    return {**job, "options": redrives.disclosed(options)}\n',
        '    return {**job, "options": dict(options)}\n',
        (f"{_API}test_the_password_of_a_rule_is_kept_and_never_told",),
    ),
    Mutant(
        "rules: a password that was not told is not lost",
        "ocrfleet/store/rules.py",
        '        options["password"] = known["password"]\n',
        "        pass\n",
        (f"{_API}test_the_password_of_a_rule_is_kept_and_never_told",),
    ),
)
