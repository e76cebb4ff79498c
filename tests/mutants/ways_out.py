"""The guards of the ways out: exports, and a file for each item as the job runs."""

from tests.mutants.mutant import Mutant

_EXPORTER = "tests/flow/test_exporter.py::"
_OUTPUTS = "tests/flow/test_item_outputs.py::"
WAYS_OUT = (
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
    Mutant(
        "outputs: an item is written when its last page has ended",
        "ocrfleet/store/item_outputs.py",
        "p.item_id = i.id AND (p.state IN ('ready', 'dispatched', 'running') OR o.seq > :last))",
        "p.item_id = i.id AND o.seq > :last)",
        (f"{_OUTPUTS}test_pages_are_in_order_however_they_ended_and_nothing_is_written_before_the_last",),
    ),
    Mutant(
        "outputs: each end is written once",
        "ocrfleet/store/item_outputs.py",
        "p.item_id = i.id AND (p.state IN ('ready', 'dispatched', 'running') OR o.seq > :last))",
        "p.item_id = i.id AND p.state IN ('ready', 'dispatched', 'running'))",
        (f"{_OUTPUTS}test_each_end_of_an_item_is_written_once_however_small_the_chunks",),
    ),
)
