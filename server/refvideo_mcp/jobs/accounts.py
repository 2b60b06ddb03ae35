"""The accounts of one process: opened when first used, closed when nothing of theirs is under way."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from refvideo_mcp.errors import Advice, Refused
from refvideo_mcp.jobs.account import Account
from refvideo_mcp.jobs.casting import watch_guests
from refvideo_mcp.jobs.rules import Limits
from refvideo_mcp.jobs.services import Background, Services, Turns
from refvideo_mcp.ledger import LedgerError
from refvideo_mcp.router import Router

__all__ = ["Accounts", "no_key"]

IDLE_SECONDS = 600.0
SHARE_OF_REQUESTS, SHARE_OF_DOWNLOADS = 5, 2


def no_key() -> Refused:
    return Refused(
        "No API key is set, so no job can be started or read.",
        Advice(
            "Ask the user to put MYROUTER_API_KEY into this server's configuration and to restart it.",
            "Put MYROUTER_API_KEY into this server's configuration and restart it.",
        )
        + " MYROUTER_API_KEY=sandbox needs no account: it simulates the router and costs nothing.",
    )


class Accounts:
    """By name. `key_of` has the router key of an account's own, "" = the server's; `router_with` one for a key."""

    def __init__(
        self,
        services: Services,
        background: Background,
        limits: Limits,
        key_of: Callable[[str], str],
        router_with: Callable[[str], Router],
    ):
        self._services = services
        self._background = background
        self._limits = limits
        self._key_of = key_of
        self._router_with = router_with
        self._routers: dict[str, Router] = {}  # by key: accounts that share one share its connections
        self._open: dict[str, Account] = {}
        self._used_at: dict[str, float] = {}  # steady seconds

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        services: Services,
        limits: Limits,
        *,
        key_of: Callable[[str], str] = lambda name: "",
        router_with: Callable[[str], Router] | None = None,
    ) -> AsyncIterator["Accounts"]:
        """For as long as calls are served. Without `router_with` all accounts use the server's router."""
        async with services.running() as background:
            background.start_soon(watch_guests, services)
            accounts = cls(services, background, limits, key_of, router_with or (lambda key: services.router))
            try:
                yield accounts
            finally:
                with anyio.CancelScope(shield=True):
                    for router in accounts._routers.values():
                        await router.aclose()

    def of(self, name: str) -> Account:
        """The account of this name, whose unfinished jobs are followed from its first use on.

        Raises:
            Refused: there is no router key for it.
        """
        now = self._services.clock.steady()
        if (account := self._open.get(name)) is None:
            self._close_idle(now)
            account = self._open[name] = self._opened(name)
        self._used_at[name] = now
        return account

    async def are_served(self) -> bool:
        """Whether a call could be: the ledger answers, and the process is not about to end."""
        services = self._services
        try:
            found = await services.ask_briefly(services.ledger.newest, "", 1)
        except LedgerError:
            return False
        return found is not None and not services.pending_posts.ending

    def _opened(self, name: str) -> Account:
        services, key = self._services, self._key_of(name)
        if key:
            if key not in self._routers:
                self._routers[key] = self._router_with(key)
            services = replace(services, router=self._routers[key])
        if not services.router.has_key:
            raise no_key()
        if not services.adopts:  # there are others: what hangs for one of them must not take every turn
            services = replace(
                services,
                requests=Turns(SHARE_OF_REQUESTS, services.requests),
                downloads=Turns(SHARE_OF_DOWNLOADS, services.downloads),
            )
        account = Account(services, self._background, f"{name}@{services.router.host.lower()}", self._limits)
        account.collect()
        return account

    def _close_idle(self, now: float) -> None:
        for name, account in list(self._open.items()):
            if now - self._used_at[name] > IDLE_SECONDS and account.is_idle:
                account.close()
                del self._open[name], self._used_at[name]
