"""A PostgreSQL server for the tests, on a socket in a folder of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from programs import needs

__all__ = ["Postgres", "running"]

# Debian keeps the server's programs off the PATH; the newest version first.
FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass(frozen=True)
class Postgres:
    folder: Path

    def new_place(self) -> str:
        """A URL with a schema of its own, which takes a hundredth of the time of a new database."""
        schema = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE SCHEMA {schema}")
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}&options=-csearch_path%3D{schema}"

    def new_database(self, isolation: str) -> str:
        """The URL of a database with another default for its transactions."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name}")
        self.run(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def run(self, statement: str) -> None:
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def frozen(self, *, only_sessions: bool = False) -> Iterator[None]:
        """Every process of the server stands still, or only those that serve a session now; at the end they go on."""
        first, *_ = (self.folder / "data" / "postmaster.pid").read_text().split()
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        processes = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
        children = [int(pid) for pid, parent, does in processes if parent == first and "postgres: postgres" in does]
        still = children if only_sessions else [int(first), *children]
        assert children
        for pid in still:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in still:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server without durability, which trusts whoever opens its socket; the test is skipped where there is none."""
    initdb, pg_ctl = needs("initdb", folders=FOLDERS), needs("pg_ctl", folders=FOLDERS)
    # Not pytest's folder: only its owner may enter that, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        # Its output goes to a file: the server inherits it, and a pipe would stay open as long as the server runs.
        with (folder / "output").open("w+") as output:
            done = subprocess.run(
                command, cwd=folder, stdout=output, stderr=output, user=user, extra_groups=[] if user else None
            )
            output.seek(0)
            assert done.returncode == 0, output.read()

    data = str(folder / "data")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=50"
    try:
        run(initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run(pg_ctl, "start", "-D", data, "-w", "-o", options)
        try:
            yield Postgres(folder)
        finally:
            run(pg_ctl, "stop", "-D", data, "-w", "-m", "immediate")
    finally:
        shutil.rmtree(folder)
