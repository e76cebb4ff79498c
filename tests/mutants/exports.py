"""The guards of exports."""

from tests.mutants.mutant import Mutant

_EXPORTER = "tests/flow/test_exporter.py::"
_CHANGES = "tests/flow/test_exporter_changes.py::"
_TURNS = "tests/flow/test_exporter_turns.py::"
EXPORTS = (
    Mutant(
        "exports: a cursor that has moved is another's",
        "ocrfleet/store/exports.py",
        "{_HELD} AND e.cursor = CAST(:before AS jsonb)\n",
        "{_HELD} AND :before <> ''\n",
        (f"{_EXPORTER}test_of_two_producers_with_one_cursor_only_the_first_moves_it",),
    ),
    Mutant(
        "exports: nothing counts of a job that is deleted",
        "ocrfleet/store/exports.py",
        "  AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = e.job_id AND j.purged_at IS NULL)\n",
        "",
        (f"{_EXPORTER}test_nothing_counts_that_was_written_after_the_job_was_deleted",),
    ),
    Mutant(
        "exports: the sign of success of another is taken away first",
        "producer/exports/run.py",
        '            self._blobs.remove(export.bucket, f"{export.prefix}{SUCCESS}")\n',
        "            pass\n",
        (f"{_EXPORTER}test_a_second_export_to_the_place_takes_its_sign_of_success_away_first",),
    ),
    Mutant(
        "exports: inputs of one name have files of their own",
        "producer/exports/run.py",
        '        if cursor["repeated"]:\n',
        "        if not cursor:\n",
        (f"{_EXPORTER}test_inputs_of_one_name_keep_files_of_their_own",),
    ),
    Mutant(
        "exports: the store's absence is no fault of an export",
        "producer/exports/run.py",
        "            self._release(leased, _RETRY_AFTER)\n        except SQLAlchemyError",
        "            self._fail(leased, exc)\n        except SQLAlchemyError",
        (f"{_EXPORTER}test_while_the_store_is_away_the_export_waits",),
    ),
    Mutant(
        "exports: what its holder may do asks for the lease",
        "ocrfleet/store/exports.py",
        '"WHERE e.id = :id AND e.lease = :lease AND e.finished_at IS NULL"',
        '"WHERE e.id = :id AND CAST(:lease AS uuid) IS NOT NULL AND e.finished_at IS NULL"',
        (f"{_TURNS}test_the_one_that_came_later_alone_has_the_export",),
    ),
    Mutant(
        "exports: who has lost the lease puts no manifest",
        "producer/exports/run.py",
        "            file.flush()\n            self._renew(export)\n",
        "            file.flush()\n",
        (f"{_TURNS}test_who_has_lost_the_lease_joins_nothing",),
    ),
    Mutant(
        "exports: who has lost the lease puts no sign of success",
        "producer/exports/run.py",
        "        self._renew(export)\n        put(",
        "        put(",
        (f"{_TURNS}test_who_has_lost_the_lease_joins_nothing",),
    ),
    Mutant(
        "exports: who has lost the lease takes no sign of success away",
        "producer/exports/run.py",
        "        self._renew(export)\n        try:\n",
        "        try:\n",
        (f"{_TURNS}test_who_has_lost_the_lease_takes_no_sign_of_success_away",),
    ),
    Mutant(
        "exports: the lease is kept whatever takes long",
        "producer/exports/run.py",
        "            with self._kept(leased):\n                self._turn(leased)\n",
        "            self._turn(leased)\n",
        (f"{_TURNS}test_the_lease_is_kept_whatever_takes_long",),
    ),
    Mutant(
        "exports: parts are joined by ordinal",
        "producer/exports/manifest_parts.py",
        "{lines[0]['ordinal']:020}-",
        "{lines[0]['ordinal']:012}-",
        (f"{_TURNS}test_items_of_many_archives_all_have_their_line",),
    ),
    Mutant(
        "exports: no lines are left of a chunk that came to no end",
        "producer/exports/run.py",
        '            self._parts.remove(export.id, export.cursor["after"])\n',
        "            pass\n",
        (f"{_TURNS}test_a_chunk_that_came_to_no_end_leaves_no_lines",),
    ),
    Mutant(
        "exports: a manifest has a line for each item",
        "producer/exports/run.py",
        "            if lines != export.items:\n",
        "            if lines > export.items:\n",
        (f"{_TURNS}test_a_manifest_that_lacks_lines_is_never_put",),
    ),
    Mutant(
        "exports: parts are fetched beside each other",
        "producer/exports/manifest_parts.py",
        "_AT_ONCE = 8\n",
        "_AT_ONCE = 1\n",
        (f"{_TURNS}test_parts_are_fetched_beside_each_other",),
    ),
    Mutant(
        "exports: names are noted for an export while it runs",
        "ocrfleet/store/exports.py",
        '    session.execute(text("DELETE FROM export_names WHERE export_id = :id"), {"id": export.id})\n',
        "",
        (f"{_TURNS}test_names_that_come_again_are_looked_for_once",),
    ),
    Mutant(
        "exports: a tenant has one at a time",
        "ocrfleet/store/exports.py",
        "WHERE o.tenant_id = w.tenant_id AND",
        "WHERE o.id = w.id AND",
        (f"{_TURNS}test_an_export_that_takes_long_holds_up_those_of_its_tenant_only",),
    ),
    Mutant(
        "exports: what is read is of one generation",
        "ocrfleet/store/exports.py",
        "generation = coalesce(CAST(:begun AS integer), generation) AS same",
        "(CAST(:begun AS integer) IS NULL OR true) AS same",
        (f"{_CHANGES}test_a_job_that_is_redriven_on_the_way_is_not_exported_as_whole",),
    ),
    Mutant(
        "exports: what is read is of a job that has ended",
        "ocrfleet/store/exports.py",
        "SELECT generation, finished_at IS NOT NULL AND ",
        "SELECT generation, ",
        (f"{_CHANGES}test_a_job_that_is_redriven_before_leaves_what_lies_there",),
    ),
    Mutant(
        "exports: of another tenant's only that the place is taken is said",
        "ocrfleet/store/exports.py",
        "        WHERE tenant_id = :tenant AND finished_at IS NULL AND bucket = :bucket AND prefix = :prefix",
        "        WHERE :tenant IS NOT NULL AND finished_at IS NULL AND bucket = :bucket AND prefix = :prefix",
        (f"{_CHANGES}test_of_another_tenants_export_nothing_is_said_but_that_the_place_is_taken",),
    ),
)
