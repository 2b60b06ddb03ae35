"""Which databases a ledger opens, how it grows with newer versions, and that a password stays secret."""

import os
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from postgres import Postgres
from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger import Draft, Job, Ledger
from refvideo_mcp.ledger.database import connect
from refvideo_mcp.ledger.schema import STEPS, migrate
from refvideo_mcp.ledger.store import BUSY_SECONDS

pytest_plugins = ["ledger_places"]

NOW = 1_800_000_000.0
PASSWORD = "pass-marker-4e1c"
TODAY = len(STEPS) + 1


@pytest.fixture
def ledger(place: Path | str, opened: Callable[[Path | str], Ledger]) -> Ledger:
    """Elsewhere its path, here itself."""
    return opened(place)


def open_job(ledger: Ledger) -> Job:
    draft = Draft("ann", {"prompt": "@1 waves"}, "fingerprint", "pictures", 5)
    return ledger.insert_or_join(draft, lambda known: draft, NOW, NOW + 120)


def test_the_url_of_a_sqlite_file_is_a_ledger_too(tmp_path: Path, opened: Callable[[Path | str], Ledger]) -> None:
    job = open_job(opened(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"))
    assert opened(tmp_path / "state" / "ledger.db").get(job.id) == job


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_url_as_hosters_write_it_is_a_ledger_too(
    postgres: Postgres, opened: Callable[[Path | str], Ledger], scheme: str
) -> None:
    url = postgres.new_place()
    job = open_job(opened(url.replace("postgresql+psycopg", scheme)))
    assert opened(url).get(job.id) == job


def mark_as_fast(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE refvideo_jobs ADD COLUMN speed VARCHAR(16) DEFAULT 'fast' NOT NULL")


def say_it_in_german(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE refvideo_jobs SET speed = 'schnell'")


def test_an_older_ledger_is_brought_forward_step_by_step(place: Path | str, ledger: Ledger) -> None:
    job = open_job(ledger)
    database = connect(place, BUSY_SECONDS)
    try:
        with database.transaction(5) as connection:
            migrate(
                connection,
                (
                    *STEPS,
                    mark_as_fast,
                ),
            )
            assert _speed_and_version(connection) == ("fast", TODAY + 1)
        for _ in range(2):  # the second time there is nothing left to do
            with database.transaction(5) as connection:
                migrate(connection, (*STEPS, mark_as_fast, say_it_in_german))
                assert _speed_and_version(connection) == ("schnell", TODAY + 2)
    finally:
        database.close()
    assert ledger.get(job.id) == job


def _speed_and_version(connection: Connection) -> tuple[str, int]:
    (speed,) = connection.exec_driver_sql("SELECT speed FROM refvideo_jobs").scalars()
    (version,) = connection.exec_driver_sql("SELECT version FROM refvideo_schema").scalars()
    return speed, version


def test_a_ledger_of_the_first_version_gets_the_indexes_of_a_new_one(
    place: Path | str, opened: Callable[[Path | str], Ledger]
) -> None:
    database = connect(place, BUSY_SECONDS)
    with database.transaction(5) as connection:
        new = _indexes(connection)
        for name in new - {"refvideo_jobs_keys", "ix_refvideo_jobs_task_id"}:
            connection.exec_driver_sql(f"DROP INDEX {name}")
        connection.exec_driver_sql("CREATE INDEX refvideo_jobs_days ON refvideo_jobs (account, opened_at)")
        connection.exec_driver_sql("UPDATE refvideo_schema SET version = 1")
    database.close()
    open_job(opened(place))
    database = connect(place, BUSY_SECONDS)
    with database.transaction(5) as connection:
        assert _indexes(connection) == new
    database.close()


def _indexes(connection: Connection) -> set[str]:
    return {str(index["name"]) for index in inspect(connection).get_indexes("refvideo_jobs")}


def test_a_step_that_fails_leaves_the_ledger_as_it_was(place: Path | str, ledger: Ledger) -> None:
    def fail(_: Connection) -> None:
        raise RuntimeError("a bug")

    job = open_job(ledger)
    database = connect(place, BUSY_SECONDS)
    try:
        with pytest.raises(RuntimeError, match="a bug"), database.transaction(5) as connection:
            migrate(connection, (*STEPS, mark_as_fast, fail))
        with database.transaction(5) as connection:
            migrate(
                connection,
                (
                    *STEPS,
                    mark_as_fast,
                ),
            )
            assert _speed_and_version(connection) == ("fast", TODAY + 1)
    finally:
        database.close()
    assert ledger.get(job.id) == job


def test_a_new_ledger_is_of_the_newest_version_without_any_step(place: Path | str) -> None:
    """Its tables are made as they are today: a step made for an older one would find its work done."""

    def never(_: Connection) -> None:
        raise AssertionError

    database = connect(place, BUSY_SECONDS)
    try:
        with database.transaction(5) as connection:
            connection.exec_driver_sql("DROP TABLE refvideo_jobs")
            connection.exec_driver_sql("DROP TABLE refvideo_schema")
            migrate(connection, (never, never))
            assert connection.exec_driver_sql("SELECT version FROM refvideo_schema").scalars().all() == [3]
    finally:
        database.close()


def test_a_newer_ledger_is_refused(place: Path | str, opened: Callable[[Path | str], Ledger]) -> None:
    database = connect(place, BUSY_SECONDS)
    with database.transaction(5) as connection:
        connection.exec_driver_sql("UPDATE refvideo_schema SET version = 7")
    database.close()
    with pytest.raises(Refused) as refused:
        open_job(opened(place))
    assert str(refused.value) == (
        "The ledger was written by a newer refvideo-mcp (its version is 7, this one reads 2). "
        "Ask the user to update refvideo-mcp."
    )


@pytest.mark.parametrize(
    "address",
    [
        "ann@127.0.0.1:1/refvideo",
        f"ann:{PASSWORD}@127.0.0.1:1/refvideo",
        f"ann:{PASSWORD}@/refvideo?host=/no/such/folder",
    ],
)
def test_a_server_that_does_not_answer_is_named_by_its_setting(address: str) -> None:
    with closing(Ledger(f"postgresql+psycopg://{address}")) as ledger, pytest.raises(Refused) as refused:
        open_job(ledger)
    assert str(refused.value) == (
        "The job ledger (the database of REFVIDEO_DATABASE_URL) cannot be used: "
        "it cannot be reached or refuses the login. Ask the user to check REFVIDEO_DATABASE_URL."
    )
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "/home/ann/ledger.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:ledger.db?mode=ro&uri=true",
        "mysql://ann@db.example/refvideo",
        f"postgres:ann:{PASSWORD}@db.example",
        f"postgresql://ann:x@y:{PASSWORD}@db.example/refvideo",
    ],
)
def test_an_url_that_is_no_ledgers_is_refused_without_repeating_it(url: str, tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with closing(Ledger(url)) as ledger, pytest.raises(Refused) as refused:
            open_job(ledger)
    finally:
        os.chdir(before)
    assert str(refused.value) == (
        "REFVIDEO_DATABASE_URL is no URL of a PostgreSQL database or of a SQLite file. "
        "It looks like postgresql+psycopg://user:password@host/name or sqlite:////folder/ledger.db."
    )
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", [f"ann:x@{PASSWORD}@127.0.0.1:1", f"ann:{PASSWORD}@[db.example"])
def test_a_password_is_never_taken_for_a_host(opened: Callable[[Path | str], Ledger], address: str) -> None:
    with pytest.raises(Refused) as refused:
        open_job(opened(f"postgresql+psycopg://{address}/refvideo"))
    assert PASSWORD not in str(refused.value)


def test_a_driver_that_is_missing_is_named(opened: Callable[[Path | str], Ledger]) -> None:
    with pytest.raises(Refused) as refused:
        open_job(opened("postgresql+asyncpg://ann@127.0.0.1:1/refvideo"))
    assert str(refused.value) == (
        "The ledger's database needs the Python package asyncpg, which is not installed. "
        "Ask the user to install it beside refvideo-mcp."
    )


def test_a_read_only_server_is_refused(postgres: Postgres, opened: Callable[[Path | str], Ledger]) -> None:
    url = postgres.new_place()
    open_job(opened(url))
    with pytest.raises(Refused) as refused:
        open_job(opened(f"{url}%20-cdefault_transaction_read_only%3Don"))
    assert refused.value.happened.endswith("it is read-only.")


def test_other_words_of_a_server_are_passed_on_by_their_code(
    postgres: Postgres, opened: Callable[[Path | str], Ledger]
) -> None:
    url = postgres.new_place()
    ledger = opened(url)
    open_job(ledger)
    database = connect(url, BUSY_SECONDS)
    with database.transaction(5) as connection:
        connection.exec_driver_sql("DROP TABLE refvideo_jobs")
    database.close()
    with pytest.raises(Refused) as refused:
        open_job(ledger)
    assert refused.value.happened == (
        "The job ledger (the database of REFVIDEO_DATABASE_URL) cannot be used: it answers 42P01."
    )
