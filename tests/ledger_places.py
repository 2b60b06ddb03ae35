"""Fixtures: a ledger on each database that it runs on. Use them with `pytest_plugins = ["ledger_places"]`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postgres import Postgres, running
from refvideo_mcp.ledger import Ledger


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a ledger may be made: a test that uses it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "state" / "ledger.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_place()


@pytest.fixture
def opened() -> Iterator[Callable[[Path | str], Ledger]]:
    """Makes ledgers that are closed with the test."""
    ledgers: list[Ledger] = []

    def ledger_at(where: Path | str) -> Ledger:
        ledgers.append(Ledger(where))
        return ledgers[-1]

    yield ledger_at
    for ledger in ledgers:
        ledger.close()
