"""The guards of exports."""

from tests.mutants.mutant import Mutant

_EXPORTER = "tests/flow/test_exporter.py::"
EXPORTS = (
    Mutant(
        "exports: a cursor that has moved is another's",
        "ocrfleet/store/exports.py",
        "WHERE e.id = :id AND e.cursor = CAST(:before AS jsonb) AND e.finished_at IS NULL\n",
        "WHERE e.id = :id AND :before <> '' AND e.finished_at IS NULL\n",
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
)
