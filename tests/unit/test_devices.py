"""What `--gpus` names, what a worker's end means for its device, and who may use one."""

import os
import random
from pathlib import Path

import pytest

from ocrfleet.errors import (
    EngineCrashed,
    EngineUnfit,
    FleetError,
    ModelLoading,
    NoCapacity,
    StartFailed,
    ValidationFailed,
)
from worker.devices import parse
from worker.locks import DeviceLock
from worker.restarts import (
    BARREN_DEATH,
    ENGINE_DEATH,
    LONGEST_DELAY,
    REFUSED,
    STEADY,
    Restarts,
    start_failure,
)

ONE, TWO = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-5c89852c-e268-c3f3-1b07-005d5ae1dc3f"
FIRST_MIG, SECOND_MIG = (
    "MIG-c7384736-a75d-5afc-978f-d2f1294409fd",
    "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d",
)
OLD_MIG = f"MIG-{ONE}/1/0"
LISTED = f"""GPU 0: NVIDIA H200 (UUID: {ONE})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {TWO})
  MIG 1g.5gb      Device  0: (UUID: {FIRST_MIG})
  MIG 3g.20gb     Device  1: (UUID: {SECOND_MIG})
GPU 2: NVIDIA L4 (UUID: GPU-00000000-0000-0000-0000-000000000002)
"""
SHORT = "MIG-c7384736"


def no_smi() -> str:
    raise StartFailed("there is no nvidia-smi on PATH")


def smi() -> str:
    return LISTED


def test_all_is_every_gpu_and_of_a_divided_one_its_parts() -> None:
    devices = parse("all", smi)
    assert [(device.name, device.visible) for device in devices] == [
        ("gpu0", "0"), (FIRST_MIG, FIRST_MIG), (SECOND_MIG, SECOND_MIG), ("gpu2", "2"),
    ]  # fmt: skip
    assert [device.label for device in devices] == ["gpu0", "mig-c7384736", "mig-a28ad590", "gpu2"]


@pytest.mark.parametrize(
    ("given", "label", "visible"),
    [
        ("3", "gpu3", "3"),
        ("03", "gpu3", "3"),
        (ONE, "gpu-5c89852c", ONE),
        (FIRST_MIG, "mig-c7384736", FIRST_MIG),
        (OLD_MIG, "mig-5c89852c", OLD_MIG),
        ("cpu:4", "cpu", ""),
    ],
)
def test_a_device_is_named_in_every_form_without_nvidia_smi(given: str, label: str, visible: str) -> None:
    (device,) = parse(given, no_smi)
    assert (device.label, device.visible) == (label, visible)


def test_uuids_that_begin_alike_keep_labels_apart() -> None:
    assert [device.label for device in parse(f"{ONE},{TWO}", no_smi)] == [
        "gpu-5c89852c-d",
        "gpu-5c89852c-e",
    ]
    olds = [f"MIG-{ONE}/1/0", f"MIG-{ONE}/11/0", f"MIG-{ONE}/1/01"]
    labels = [device.label for device in parse(",".join(olds), no_smi)]
    assert len(set(labels)) == 3


@pytest.mark.parametrize(
    "given",
    ["", "0,", "-1", "0-3", "gpu0", "all,0", "cpu", "cpu:0", "cpu:2,0", ONE[:-1], f"{ONE} x", SHORT, "MIG-1", "MIG-GPU-1/0/0"],
)  # fmt: skip
def test_what_is_no_device_is_refused(given: str) -> None:
    with pytest.raises(ValidationFailed, match="is no device"):
        parse(given, no_smi)


@pytest.mark.parametrize("given", ["0,0", "0,00", f"0,{ONE}", f"{FIRST_MIG},{FIRST_MIG}"])
def test_one_device_under_two_names_is_refused(given: str) -> None:
    with pytest.raises(ValidationFailed, match="more than once"):
        parse(given, smi)


def test_what_nvidia_smi_does_not_list_or_lists_divided_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="has no GPU 7; it has 0 "):
        parse("7", smi)
    for divided in ("1", TWO):
        with pytest.raises(ValidationFailed, match=f"divided into MIG devices; name them: {FIRST_MIG}"):
            parse(divided, smi)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "no nvidia-smi on PATH"),
        ("echo 'No devices were found' >&2; exit 6", "No devices were found"),
        ("true", "lists no GPU"),
    ],
)
def test_all_without_gpus_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str
) -> None:
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartFailed, match=message):
        parse("all")


def test_an_index_and_its_uuid_lock_the_same(tmp_path: Path) -> None:
    (by_index,), (by_uuid,) = parse("0", smi), parse(ONE, smi)
    lock = DeviceLock(by_index, tmp_path)
    lock.take()
    with pytest.raises(StartFailed, match=f"has a worker already: process {os.getpid()} holds"):
        DeviceLock(by_uuid, tmp_path).take()
    with pytest.raises(StartFailed):
        # An attempt leaves the holder's mark as it was.
        DeviceLock(by_uuid, tmp_path).take()
    other, again = DeviceLock(parse("2", smi)[0], tmp_path), DeviceLock(by_uuid, tmp_path)
    other.take()
    lock.release()
    again.take()
    for held in (other, again):
        held.release()


def delays(*ends: tuple[int, float]) -> list[float | None]:
    restarts = Restarts(random.Random(1))  # noqa: S311 (jitter)
    return [restarts.after(code, lived) for code, lived in ends]


def near(seconds: float) -> object:
    return pytest.approx(seconds, rel=0.25)


def test_deaths_wait_longer_each_time_up_to_a_minute() -> None:
    assert delays(*[(-9, 5.0)] * 9) == [near(min(2.0**n, LONGEST_DELAY)) for n in range(9)]
    assert len(set(delays(*[(1, 0.0)] * 200)[7:])) > 100, "without jitter a whole rack restarts at once"


def test_a_worker_that_lived_well_or_read_pages_comes_back_soon() -> None:
    quick = [(1, 0.0)] * 8
    assert delays(*quick, (1, STEADY))[-1] == near(1)
    assert delays(*quick, (ENGINE_DEATH, 5.0))[-1] == near(1)
    assert delays(*quick, (1, STEADY - 1))[-1] == near(LONGEST_DELAY)


def test_two_barren_deaths_in_a_row_are_a_quarantine_and_one_is_none() -> None:
    barren = (BARREN_DEATH, 5.0)
    assert delays(barren, barren) == [near(1), None]
    # An idle engine that dies late has read nothing either, and a kill in between proves nothing.
    assert delays((BARREN_DEATH, 900.0), (-9, 5.0), (REFUSED, 900.0), (BARREN_DEATH, 900.0))[-1] is None
    for proof in ((ENGINE_DEATH, 5.0), (-9, STEADY)):
        assert delays(barren, proof, barren)[-1] is not None


def test_a_refusal_waits_long_and_does_not_make_the_next_death_wait() -> None:
    assert delays((REFUSED, 5.0), (REFUSED, 5.0), (1, 5.0)) == [near(LONGEST_DELAY)] * 2 + [near(1)]
    restarts = Restarts()
    restarts.after(REFUSED, 5.0)
    assert restarts.refused
    restarts.after(1, 5.0)
    assert not restarts.refused


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineCrashed(), BARREN_DEATH),
        (ModelLoading(), 1),
        (NoCapacity(), 1),
        (StartFailed(), REFUSED),
        (EngineUnfit(), REFUSED),
    ],
)
def test_an_engine_that_did_not_start_died_may_start_later_or_refuses(error: FleetError, code: int) -> None:
    assert start_failure(error) == code
