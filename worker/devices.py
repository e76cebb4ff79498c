"""Which devices `--gpus` names: indices, UUIDs, MIG devices, all that nvidia-smi lists, or the CPU."""

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ocrfleet.errors import StartFailed, ValidationFailed

_HEX = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
GPU_UUID = re.compile(rf"GPU-{_HEX}")
MIG_UUID = re.compile(rf"MIG-{_HEX}|MIG-GPU-{_HEX}/\d+/\d+")
"""The second form is that of drivers before 470: GPU, GPU instance, compute instance."""
CPU = re.compile(r"cpu:[1-9]\d*")
_LISTED = re.compile(r"GPU (?P<index>\d+): .*\(UUID: (?P<gpu>GPU-\S+)\)|\s+MIG .*\(UUID: (?P<mig>MIG-\S+)\)")
FORMS = "all, indices such as 0,1, GPU-<uuid>, MIG-<uuid>, or cpu:N"
_SMI_TIMEOUT = 60.0
"""Without the persistence daemon the driver wakes every GPU first."""
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Device:
    """What one worker is pinned to."""

    name: str
    """In the record and in OCRFLEET_DEVICE: gpu0, a UUID, cpu:N."""
    label: str
    """In the worker's node name, short: gpu0, gpu-5c89852c, mig-c7384736, cpu."""
    visible: str
    """CUDA_VISIBLE_DEVICES, in the form that was given; empty hides every GPU."""
    key: str
    """The same for every name of the same device, as far as nvidia-smi tells."""

    @property
    def is_cpu(self) -> bool:
        return self.label == "cpu"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that nvidia-smi lists, with its MIG devices."""

    index: str
    uuid: str
    migs: tuple[str, ...] = ()


def parse(given: str, list_gpus: Callable[[], str] | None = None) -> list[Device]:
    """The devices of `--gpus`, each once; ValidationFailed for what is none, StartFailed without GPUs for `all`.

    `list_gpus` prints them as `nvidia-smi -L`, which is the default.
    """
    if CPU.fullmatch(given):
        return [Device(name=given, label="cpu", visible="", key="cpu")]
    gpus: list[Gpu] = []
    try:
        gpus = list(_listed((list_gpus or _nvidia_smi)()))
    except StartFailed:
        # What is named one by one may be right although nothing can be looked up.
        if given == "all":
            raise
    if given == "all":
        names = [name for gpu in gpus for name in (gpu.migs or (gpu.index,))]
        if not names:
            raise StartFailed("nvidia-smi lists no GPU on this host; for its processor: --gpus cpu:N")
    else:
        names = [name.strip() for name in given.split(",")]
    devices = [_device(name, names, gpus) for name in names]
    twice = {device.name for device in devices if [other.key for other in devices].count(device.key) > 1}
    if twice:
        raise ValidationFailed(f"named more than once: {', '.join(sorted(twice))}")
    return devices


def _device(name: str, names: Sequence[str], gpus: Sequence[Gpu]) -> Device:
    if MIG_UUID.fullmatch(name):
        return Device(name=name, label=f"mig-{_short(name, names)}", visible=name, key=name)
    if not re.fullmatch(r"\d{1,4}", name) and not GPU_UUID.fullmatch(name):
        raise ValidationFailed(f"{name!r} is no device: {FORMS}")
    index = name if name.startswith("GPU") else str(int(name))
    gpu = next((gpu for gpu in gpus if index in (gpu.index, gpu.uuid)), None)
    if gpus and gpu is None:
        known = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus)
        raise ValidationFailed(f"this host has no GPU {name}; it has {known}")
    if gpu and gpu.migs:
        raise ValidationFailed(f"GPU {name} is divided into MIG devices; name them: {', '.join(gpu.migs)}")
    if index == name and name.startswith("GPU"):
        return Device(name=name, label=f"gpu-{_short(name, names)}", visible=name, key=name)
    return Device(
        name=f"gpu{index}", label=f"gpu{index}", visible=index, key=gpu.uuid if gpu else f"gpu{index}"
    )


def _short(name: str, names: Sequence[str]) -> str:
    """The beginning of a UUID, as long as it takes to tell it from the others."""
    plain = _plain(name)
    others = [_plain(other) for other in names if other != name]
    length = next(
        (n for n in range(_SHORT, len(plain)) if not any(o.startswith(plain[:n]) for o in others)), None
    )
    return plain[:length].rstrip("-")


def _plain(name: str) -> str:
    return re.sub(r"^(MIG-GPU-|MIG-|GPU-)", "", name).replace("/", "-")


def _nvidia_smi() -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607
            capture_output=True, text=True, timeout=_SMI_TIMEOUT, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        reason = "there is no nvidia-smi on PATH" if isinstance(exc, FileNotFoundError) else str(exc)
        raise StartFailed(f"the GPUs of this host cannot be listed: {reason}; name them: {FORMS}") from exc
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise StartFailed(f"the GPUs of this host cannot be listed: nvidia-smi: {said}")
    return done.stdout


def _listed(text: str) -> Iterator[Gpu]:
    gpu: Gpu | None = None
    for found in map(_LISTED.match, text.splitlines()):
        if found and found["gpu"]:
            if gpu:
                yield gpu
            gpu = Gpu(found["index"], found["gpu"])
        elif found and gpu:
            gpu = Gpu(gpu.index, gpu.uuid, (*gpu.migs, found["mig"]))
    if gpu:
        yield gpu
