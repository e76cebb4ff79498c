"""What a process that reads files may not do, tried by code that means harm."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from children import children
from files import FILES, pdf, pdf_page
from fleet_builders import wait_for
from made import MADE
from made_images import png

from ocrfleet.documents import HEAD_BYTES, Limits, sniff
from ocrfleet.sandbox import ENVIRONMENT, RECYCLE_AFTER, Sandbox
from ocrfleet.sandbox_walls import PROCESSES
from ocrfleet.settings import Settings

LIMITS = Limits.of(Settings())
MEMORY = 600 * 1024**2
CONFINED = """
import json, os, resource, signal, socket, sys, threading
from pathlib import Path
from ocrfleet import sandbox_walls
from ocrfleet.documents import Limits
apart = sandbox_walls.isolate()
sandbox_walls.confine(Limits(**json.loads(sys.argv[1])), 10, apart=apart)
def refused(act):
    try:
        return f"not refused: {act()}"
    except BaseException as exc:
        return type(exc).__name__
"""


def confined(code: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a process like those of the sandbox."""
    limits = json.dumps(asdict(replace(LIMITS, sandbox_memory=MEMORY)))
    run = [sys.executable, "-P", "-s", "-c", before + "\n" + CONFINED + code, limits]
    return subprocess.run(run, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)


def said(code: str, before: str = "") -> str:
    done = confined(code, before)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def may(act: str) -> bool:
    """Whether this kernel lets this user do so."""
    return subprocess.run([sys.executable, "-c", act], check=False, stderr=subprocess.DEVNULL).returncode == 0


NAMESPACES = may("import ctypes; exit(ctypes.CDLL(None).unshare(0x50000000))")
"""Whether anybody may leave the network: CLONE_NEWUSER and CLONE_NEWNET."""
OTHER_USERS = may(f"import os; os.setresuid({1 << 30}, {1 << 30}, {1 << 30})")


def test_it_gets_no_more_memory_than_its_limit() -> None:
    assert said(f"print(refused(lambda: len(bytearray({MEMORY}))))") == "MemoryError"
    assert said(f"print(refused(lambda: len(bytearray({MEMORY // 4}))))").startswith("not refused")


def test_it_is_ended_when_it_works_for_too_long() -> None:
    assert confined("sandbox_walls.start_clock(0.5)\nwhile True: pass").returncode == -signal.SIGPROF


def test_the_clock_starts_anew_with_each_file() -> None:
    work = """
import time
for _ in range(5):
    sandbox_walls.start_clock(1.5)
    end = time.process_time() + 1
    while time.process_time() < end: pass
print("done")"""
    assert said(work) == "done"


def test_it_starts_no_process_and_no_thread() -> None:
    if os.geteuid() == 0 and not OTHER_USERS:
        pytest.skip("the kernel does not count root's processes, and lets this one be nobody else")
    assert said("print(refused(os.fork))") == "BlockingIOError"
    assert said("print(refused(lambda: threading.Thread(target=int).start()))") == "RuntimeError"


def test_a_decoder_that_needs_a_thread_gets_a_few() -> None:
    code = f"""
done = threading.Event()
def start():
    threading.Thread(target=done.wait, daemon=True).start()
with sandbox_walls.allow_threads():
    start()
    more = [refused(start) for _ in range({2 * PROCESSES})]
print(apart, more.count("RuntimeError"), refused(start))
done.set()"""
    assert said("with sandbox_walls.allow_threads(): pass\nprint(refused(os.fork))") == "BlockingIOError"
    apart, over, after = said(code).split()
    assert (apart, after) == (str(NAMESPACES or OTHER_USERS), "RuntimeError")
    # One is the first thread, one was started before; counted with others, they are as many as the user may have.
    assert apart == "False" or int(over) == 2 * PROCESSES - (PROCESSES - 2)


def test_it_reaches_no_network() -> None:
    if not NAMESPACES and os.geteuid():
        pytest.skip("this kernel lets nobody leave the network but root")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "not refused" not in said(
            f"print(refused(lambda: socket.create_connection(('127.0.0.1', {port}), 5)))"
        )
    assert said("print([name for _, name in socket.if_nameindex()])") == "['lo']"


def test_it_is_not_root_and_has_no_capability(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    status = said("print(Path('/proc/self/status').read_text())")
    values = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    assert values["CapEff"] == values["CapPrm"] == ["0000000000000000"]
    assert values["NoNewPrivs"] == ["1"]
    if not OTHER_USERS:
        pytest.skip("this run is not root's, or of one that may be nobody else")
    assert "0" not in values["Uid"] + values["Gid"]
    assert values["Groups"] == []
    assert said(f"print(refused(lambda: open({str(secret)!r}).read()))") == "PermissionError"


def test_two_of_them_are_two_users(tmp_path: Path) -> None:
    if not OTHER_USERS:
        pytest.skip("only root can be somebody else")
    (tmp_path / "file").write_bytes(FILES["tiff"][0])
    before = children()
    with Sandbox(1, LIMITS) as one, Sandbox(1, LIMITS) as other:
        one.count(tmp_path / "file")
        other.count(tmp_path / "file")
        users = {child.uids().real for child in children() if child not in before}
    assert len(users) == 2
    assert 0 not in users


def test_it_cannot_look_into_its_parent() -> None:
    if not NAMESPACES and not OTHER_USERS:
        pytest.skip("a process may look into others of its user")
    assert (
        said("print(refused(lambda: Path(f'/proc/{os.getppid()}/environ').read_bytes()))")
        == "PermissionError"
    )


def test_it_writes_nothing_and_opens_few_files() -> None:
    code = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = os.memfd_create("x")
print(refused(lambda: os.write(file, b"x")), refused(lambda: [open(os.devnull) for _ in range(100)]))"""
    assert said(code) == "OSError OSError"


def test_it_goes_first_when_the_machine_runs_out_of_memory() -> None:
    assert said("print(Path('/proc/self/oom_score_adj').read_text())") == "1000"


def test_limits_that_are_narrower_already_stay() -> None:
    narrow = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))"
    code = "print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_AS)[0])"
    assert said(code, narrow) == f"(32, 32) {MEMORY}"


def test_the_processes_of_the_sandbox_are_confined(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILES["tiff"][0])
    with Sandbox(1, LIMITS) as box:
        before = children()
        box.count(tmp_path / "file")
        (child,) = [each for each in children() if each not in before]
        assert child.environ().keys() - {"LC_CTYPE"} == ENVIRONMENT.keys()
        text = Path(f"/proc/{child.pid}/limits").read_text()
        limits = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
        assert limits["Max address space"] == [str(LIMITS.sandbox_memory)] * 2
        assert limits["Max core file size"] == limits["Max file size"] == ["0", "0"]
        assert limits["Max processes"][0] == "0"
        assert int(limits["Max open files"][1]) <= 64
        assert int(limits["Max cpu time"][1]) == 2 * RECYCLE_AFTER * LIMITS.render_timeout + 1
        assert not child.net_connections("inet")
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status


@pytest.mark.filterwarnings("ignore")
def test_what_one_file_needed_is_not_kept_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "states.pdf").write_bytes(pdf(pdf_page("q " * 3_000_000, "0 0 72 72")))
    before = children()
    with Sandbox(1, LIMITS) as box:
        for read in (lambda: box.decode(png(10_000, 9_900)), lambda: box.render(tmp_path / "states.pdf", 1)):
            read()
            (child,) = [each for each in children() if each not in before]
            wait_for(lambda child=child: child.memory_info().rss < 200 * 1024**2)


def test_a_confined_reader_needs_nothing_that_it_could_not_load_any_more() -> None:
    code = """
import pickle, sys, tempfile
from ocrfleet.sandbox_child import Reader
from ocrfleet.documents import Limits
reader, files = Reader(Limits(**pickle.load(sys.stdin.buffer))), pickle.load(sys.stdin.buffer)
before = set(sys.modules)
for kind, data in files:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        for verb in ("count", "render"):
            file.seek(0)
            if verb == "render" or kind in ("pdf", "tiff"):
                reader.answer({"verb": verb, "media_type": kind, "password": None, "page": 1}, file)
print(set(sys.modules) - before or "nothing")"""
    files: list[tuple[str, bytes]] = []
    small = (
        "truncated",
        "colours",
        "several frames",
        "EXIF turned",
        "HEIC, AVIF, JPEG 2000",
        "PDF, malformed",
    )
    for made in (each for kind in small for each in MADE[kind].values()):
        data = made.make()
        files.append((str(sniff(data[:HEAD_BYTES])), data))
    done = subprocess.run(
        [sys.executable, "-P", "-s", "-W", "ignore", "-c", code],
        env=ENVIRONMENT,
        input=pickle.dumps(asdict(LIMITS)) + pickle.dumps(files),
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.decode().split() == ["nothing"]
