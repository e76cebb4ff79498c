"""Locks of a host: whose folder they trust, and what they tell of the dead."""

from pathlib import Path
from uuid import uuid4

import pytest

from ocrfleet.errors import StartFailed
from ocrfleet.settings import Settings
from worker.devices import Device
from worker.locks import DeviceLock, WorkerLock


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    device = Device("gpu0", "gpu0", "0", "gpu0")
    with pytest.raises(StartFailed, match="somebody else"):
        DeviceLock(device, tmp_path / "link").take()


def test_a_worker_learns_who_died_before_it_and_nothing_while_that_one_lives(tmp_path: Path) -> None:
    config, first = Settings(worker_name="ocr@host"), uuid4()
    lock, other = WorkerLock(config, tmp_path), WorkerLock(config, tmp_path)
    assert lock.succeed() is None
    lock.sign_as(first)
    assert other.succeed() is None
    other.sign_as(uuid4())
    elsewhere = WorkerLock(
        Settings(worker_name="ocr@host", database_url="postgresql://other/fleet"), tmp_path
    )
    assert elsewhere.succeed() is None
    lock.release()
    assert other.succeed() == first
    for held in (other, elsewhere):
        held.release()


def test_workers_of_one_host_learn_that_one_beside_them_is_dead(tmp_path: Path) -> None:
    names = ("ocr@host-gpu0", "ocr@host-gpu1", "ocr@host-gpu2")
    dying, one, other = (WorkerLock(Settings(worker_name=name), tmp_path) for name in names)
    elsewhere = WorkerLock(Settings(database_url="postgresql://other/fleet"), tmp_path)
    incarnation = uuid4()
    for lock in (dying, one, other, elsewhere):
        assert lock.succeed() is None
        lock.sign_as(incarnation if lock is dying else uuid4())
    assert list(one.dead()) == []
    dying.release()
    assert list(elsewhere.dead()) == []
    assert next(one.dead()) == incarnation, "and told again where it could not be recorded"
    assert list(one.dead()) == [incarnation]
    assert list(other.dead()) == []
    assert dying.succeed() is None, "it has been told"
    for lock in (dying, one, other, elsewhere):
        lock.release()


def test_a_worker_works_without_its_lock(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    lock = WorkerLock(Settings(), tmp_path / "link")
    assert lock.succeed() is None
    lock.sign_as(uuid4())
