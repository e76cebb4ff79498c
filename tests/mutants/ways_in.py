"""The guards of the ways in: manifests, archives, uploads, and results that are there already."""

from tests.mutants.mutant import Mutant

_ARCHIVES = "tests/unit/test_archives.py::"
_MANIFESTS = "tests/unit/test_manifests.py::"
_CONTAINERS = "tests/flow/test_containers.py::"
_UPLOADS = "tests/flow/api/test_api_uploads.py::"
_REDRIVEN = "tests/flow/test_redriven_containers.py::"
_CACHE = "tests/unit/test_doccache.py::"
_IMAGES = "tests/flow/test_batch_images.py::"
_EXISTING = "tests/flow/test_existing.py::"
WAYS_IN = (
    Mutant(
        "archives: what they inflate to",
        "ocrfleet/archives.py",
        "        if total > limit:\n",
        "        if total < 0:\n",
        (f"{_ARCHIVES}test_a_nasty_archive_ends_with_its_code[a zip that says it is a bomb]",),
    ),
    Mutant(
        "archives: how many entries",
        "ocrfleet/archives.py",
        "        if count > bounds.entries:\n",
        "        if count < 0:\n",
        (f"{_ARCHIVES}test_a_nasty_archive_ends_with_its_code[many entries in a tar.gz]",),
    ),
    Mutant(
        "archives: a directory is not read before its size is known",
        "ocrfleet/archives.py",
        "    if entries > bounds.entries or size > bounds.entries * _DIRECTORY_ENTRY:\n",
        "    if entries < 0 and size < 0:\n",
        (f"{_ARCHIVES}test_a_nasty_archive_ends_with_its_code[millions of entries by its own word]",),
    ),
    Mutant(
        "archives: paths that lead out",
        "ocrfleet/archives.py",
        '    if ".." in parts or not parts[0] or ":" in parts[0]:\n',
        "    if not parts:\n",
        (f"{_ARCHIVES}test_a_path_that_leads_out_is_an_error_of_its_member_alone",),
    ),
    Mutant(
        "archives: what tarfile overlooks",
        "ocrfleet/archives.py",
        "        except tarfile.HeaderError as exc:\n",
        "        except EOFError as exc:\n",
        (
            f"{_ARCHIVES}test_a_nasty_archive_ends_with_its_code[a tar whose second header is damaged]",
            f"{_ARCHIVES}test_a_nasty_archive_ends_with_its_code[a tar cut between two members]",
        ),
    ),
    Mutant(
        "archives: a member is bounded as it is read",
        "ocrfleet/archives.py",
        "    if len(data) > bounds.member_bytes:\n",
        "    if len(data) < 0:\n",
        (f"{_ARCHIVES}test_a_member_is_no_larger_in_memory_than_it_may_be",),
    ),
    Mutant(
        "manifests: a stray quote swallows no other rows",
        "ocrfleet/manifests.py",
        "        if isinstance(found, ManifestInvalid) and len(taken) > 1:\n",
        "        if isinstance(found, ManifestInvalid) and not taken:\n",
        (
            f"{_MANIFESTS}test_a_broken_row_is_an_item_that_says_so_with_its_line_and_swallows_no_other[a quote inside]",
        ),
    ),
    Mutant(
        "manifests: gzip data that end too early",
        "ocrfleet/manifests.py",
        "    if begun and not inflate.eof:\n",
        "    if not begun and inflate.eof:\n",
        (f"{_MANIFESTS}test_damaged_and_truncated_gzip_data_fail_the_job_where_they_are",),
    ),
    Mutant(
        "containers: not of a canceled job",
        "ocrfleet/store/containers.py",
        "    if item.job_id not in held or not held[item.job_id].accepts:\n",
        "    if item.job_id not in held:\n",
        (f"{_CONTAINERS}test_the_items_of_a_canceled_job_are_not_unpacked",),
    ),
    Mutant(
        "containers: once",
        "ocrfleet/store/containers.py",
        "WHERE i.id = :id AND i.state = 'pending' AND i.member IS NULL RETURNING i.ordinal",
        "WHERE i.id = :id RETURNING i.ordinal",
        (f"{_CONTAINERS}test_an_archive_unpacked_by_two_is_unpacked_once",),
    ),
    Mutant(
        "uploads: a job takes those of its tenant only",
        "ocrfleet/store/uploads.py",
        "FROM uploads WHERE tenant_id = :tenant AND id = ANY(:ids)",
        "FROM uploads WHERE CAST(:tenant AS uuid) IS NOT NULL AND id = ANY(:ids)",
        (f"{_UPLOADS}test_uploads_are_listed_newest_first_and_another_tenants_are_nobodys",),
    ),
    Mutant(
        "uploads: all declared bytes",
        "api/uploads.py",
        "    if info.size != declared:\n",
        "    if info.size < 0:\n",
        (f"{_UPLOADS}test_completion_is_refused_until_all_declared_bytes_are_there",),
    ),
    Mutant(
        "uploads: parts are not put together before all are there",
        "api/uploads.py",
        "            if actual == declared:\n",
        "            if actual:\n",
        (f"{_UPLOADS}test_a_large_object_goes_in_parts_and_on_after_an_interruption",),
    ),
    Mutant(
        "uploads: what is complete does not expire",
        "ocrfleet/store/uploads.py",
        "WHERE state = 'open' AND created_at < now()",
        "WHERE created_at < now()",
        (f"{_UPLOADS}test_what_nobody_completes_expires",),
    ),
    Mutant(
        "on_existing: only with results for each item",
        "producer/existing.py",
        '        if not output.get("per_item") or wanted == "overwrite":\n',
        '        if wanted == "overwrite":\n',
        (f"{_EXISTING}test_all_is_read_otherwise",),
    ),
    Mutant(
        "on_existing: what a full listing does not show may be there",
        "producer/existing.py",
        "            return listed, len(listed) < most\n",
        "            return listed, True\n",
        (f"{_EXISTING}test_what_a_full_listing_does_not_show_is_asked_for_many_at_a_time",),
    ),
    Mutant(
        "on_existing: listed before it is asked for",
        "producer/existing.py",
        "        if len(keys) <= THREADS:\n",
        "        if keys:\n",
        (f"{_EXISTING}test_many_results_are_found_by_one_listing",),
    ),
    Mutant(
        "archives: a tar.gz that is too large stays as it came",
        "ocrfleet/doccache.py",
        "            if written > most:\n",
        "            if written < 0:\n",
        (f"{_CACHE}test_a_tar_beyond_the_disk_or_the_bounds_is_not_inflated",),
    ),
    Mutant(
        "archives: gzip data that end too early are no tar",
        "ocrfleet/doccache.py",
        "    if not gzip.eof:\n",
        "    if not gzip:\n",
        (f"{_CACHE}test_what_holds_no_tar_is_kept_as_it_came",),
    ),
    Mutant(
        "archives: workers keep the tar within",
        "worker/decode.py",
        "        with self._documents.use(archive, fetch, self._bounds) as document:\n",
        "        with self._documents.use(archive, fetch) as document:\n",
        (f"{_CONTAINERS}test_a_gzipped_tar_is_inflated_once_by_who_counts_and_who_reads",),
    ),
    Mutant(
        "archives: where members stand is remembered of one tar",
        "ocrfleet/archives.py",
        "        if identity != self._read:\n",
        "        if not self._read:\n",
        ("tests/unit/test_archives.py::test_of_a_tar_that_was_read_last_no_other_member_is_looked_at",),
    ),
    Mutant(
        "redrive: an archive is unpacked",
        "worker/decode.py",
        "        if _is_archive(page, fetched):\n",
        "        if found.page_count:\n",
        (f"{_REDRIVEN}test_it_is_unpacked_once_whatever_is_redriven_later",),
    ),
    Mutant(
        "redrive: the archive of a canceled job is not unpacked",
        "ocrfleet/store/settle.py",
        "        if s.members and s.state != PageState.CANCELED:\n",
        "        if s.members:\n",
        (f"{_REDRIVEN}test_the_archive_of_a_job_that_is_canceled_meanwhile_stays_as_it_is",),
    ),
    Mutant(
        "redrive: members are of the same redrive",
        "ocrfleet/store/containers.py",
        "        SELECT i.id, p.job_id, greatest(p.number, 1), p.redrive_id\n",
        "        SELECT i.id, p.job_id, greatest(p.number, 1), NULL\n",
        (f"{_REDRIVEN}test_the_redrives_options_go_for_every_member",),
    ),
    Mutant(
        "redrive: what is kept for the fleet stays so",
        "worker/decode.py",
        "        if page.redriven:\n",
        "        if page.redriven and not page.job_id:\n",
        (f"{_REDRIVEN}test_what_is_kept_for_the_fleet_is_not_read_by_the_back_door",),
    ),
    Mutant(
        "batches: images are kept for redrives",
        "ocrfleet/store/batches.py",
        "  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = ANY(b.job_ids) AND j.finished_at IS NULL)\nORDER BY ended_at",
        "ORDER BY ended_at",
        (f"{_IMAGES}test_a_job_that_is_redriven_keeps_them",),
    ),
    Mutant(
        "batches: images are removed to the last",
        "producer/batches.py",
        "            if len(removed) < most:\n",
        "            if removed:\n",
        (f"{_IMAGES}test_of_many_some_go_each_time",),
    ),
)
