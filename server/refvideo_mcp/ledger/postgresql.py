"""The ledger in a PostgreSQL database: whatever its defaults are, and though it may hang."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from refvideo_mcp.ledger.schema import migrate

__all__ = ["PostgresDatabase"]

CONNECTIONS = 8
CONNECT_SECONDS = 3
PING_SECONDS = 3.0
POOL_SECONDS = 5.0
MIGRATION, ACCOUNT = 7265666, 7265667  # our numbers among the locks of this database
LIBPQ = {
    "connect_timeout": CONNECT_SECONDS,
    # A server that is gone without a word shows while its connections idle.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# By a query, for this transaction only: a pooler between us would refuse them as a connection's options.
LIMITS = text(
    "SELECT set_config('statement_timeout', :limit, true), set_config('lock_timeout', :limit, true), "
    "set_config('idle_in_transaction_session_timeout', :limit, true)"
)


class PostgresDatabase:
    def __init__(self, url: URL, seconds: float):
        """Bring its tables up to date. Nothing here or later waits for it much longer than `seconds`.

        Raises:
            ImportError: its driver is not installed.
        """
        only_psycopg = {"prepare_threshold": None} if url.drivername == "postgresql+psycopg" else {}  # poolers
        self._engine = create_engine(
            url,
            hide_parameters=True,  # they hold prompts and presigned links
            isolation_level="READ COMMITTED",  # another takes its snapshot before it waits for a lock
            pool_size=CONNECTIONS,
            pool_timeout=POOL_SECONDS,
            connect_args=LIBPQ | only_psycopg,
        )
        try:
            with self.transaction(seconds) as connection:
                _lock(connection, MIGRATION, "")  # replicas start together
                migrate(connection)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(
        self, seconds: float, *, reads: bool = False, durable: bool = True, alone: str | None = None
    ) -> Iterator[Connection]:
        """A transaction; with an account, `alone` among those that open its jobs. The server makes all durable.

        Raises:
            TimeoutError: it did not answer. What was sent may still take effect.
        """
        give_up = time.monotonic() + seconds
        connection = self._answering(seconds)
        try:
            with _cut_off(connection, max(1.0, give_up - time.monotonic())):
                try:
                    if alone is not None:
                        _lock(connection, ACCOUNT, alone)
                    yield connection
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
        finally:
            connection.close()

    def is_settled(self, account: str, connection: Connection) -> bool:
        """Whether no transaction that was `alone` with the account's jobs is left open, by a server that hung."""
        query = text("SELECT pg_try_advisory_xact_lock(:room, hashtext(:name))")
        return bool(connection.execute(query, {"room": ACCOUNT, "name": account}).scalar_one())

    def leave(self) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def _answering(self, seconds: float) -> Connection:
        """A connection in a transaction: one of those that are kept, or a new one where that does not answer."""
        limits = {"limit": str(max(1, int(seconds * 1000)))}
        for is_last in (False, True):
            connection = self._engine.connect()
            try:
                with _cut_off(connection, min(PING_SECONDS, seconds)):
                    connection.execute(LIMITS, limits)
                return connection
            except BaseException as error:
                connection.close()
                died = isinstance(error, TimeoutError) or (
                    isinstance(error, DBAPIError) and error.connection_invalidated
                )
                if is_last or not died:
                    raise
        raise AssertionError


def _lock(connection: Connection, room: int, name: str) -> None:
    query = text("SELECT pg_advisory_xact_lock(:room, hashtext(:name))")
    connection.execute(query, {"room": room, "name": name})


@contextmanager
def _cut_off(connection: Connection, seconds: float) -> Iterator[None]:
    """Hang up on a server that does not answer: its own time-outs do not run while it hangs.

    Raises:
        TimeoutError: that was done.
    """
    # A duplicate: the driver may close its own at any time, and the number may be another file's then.
    driver: socket.socket = connection.connection.dbapi_connection  # type: ignore[assignment]
    line = socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    cut = threading.Event()

    def hang_up() -> None:
        cut.set()
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except DBAPIError as error:
        if cut.is_set():
            raise TimeoutError(f"no answer within {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()
        line.close()
