"""A PostgreSQL server for the tests, on a socket in a folder of its own."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres") as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}&options=-csearch_path%3D{schema}"


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
