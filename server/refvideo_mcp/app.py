"""Puts a server together from its settings."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import MCPServer
from mcp.server.request_state import RequestStateSecurity

from refvideo_mcp import __version__
from refvideo_mcp.cast import Cast, Guests
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Bucket, Images
from refvideo_mcp.jobs import Accounts, Caller, Clock, Limits, PendingPosts, Services
from refvideo_mcp.ledger import Ledger
from refvideo_mcp.network import Trust
from refvideo_mcp.player import by_client, player
from refvideo_mcp.prompts import build_prompts
from refvideo_mcp.router import Router, Timeouts
from refvideo_mcp.settings import Settings, is_loopback
from refvideo_mcp.tasks import JobTasks, Tasks
from refvideo_mcp.tools import (
    INSTRUCTIONS,
    CastResource,
    ServerState,
    build_tools,
    complete_names,
    hear_of_cancelled,
    know_caller,
    observed,
)
from refvideo_mcp.videos import Videos

if TYPE_CHECKING:
    import httpx2

__all__ = ["build_server", "consent_of", "running"]

# The tools change only with the program, which a client may have updated meanwhile.
TOOLS_KEEP_MS = 300_000
# Of one account among many. A call that waits takes 100 kB.
MOST_CALLS = 64
# Whoever calls where nobody says who they are: the user of this machine.
OWNER = "local"


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    pending_posts: PendingPosts | None = None,
    leftovers: ExitStack | None = None,
    transport: "httpx2.AsyncBaseTransport | None" = None,
    clock: Clock | None = None,
    timeouts: Timeouts | None = None,
    caller: Caller | None = None,
    key_of: Callable[[str], str] | None = None,
) -> AsyncIterator[ServerState]:
    """Everything behind the tools, for as long as the block runs; the command line works with the same.

    `pending_posts` counts the POSTs on their way. `leftovers` holds what would stay behind if the process ended without
    closing it: a sandbox and its folder. `transport` and `clock` stand in for the network and for time; `timeouts` are
    the router's. `caller` is who calls, as far as the door knows before any call. `key_of` has the router key of an
    account's own, "" = the server's.
    """
    time = clock or Clock()
    owner = "" if settings.auth else OWNER
    if settings.fault or not (settings.api_key or key_of):
        yield ServerState(None, owner, time, settings.sandbox, shows_paths=not settings.http, fault=settings.fault)
        return
    with leftovers if leftovers is not None else ExitStack() as stack:
        base_url, database = settings.base_url, settings.database
        state, cache, data = settings.state_dir, settings.cache_dir, settings.data_dir
        if settings.sandbox:
            from refvideo_mcp.sandbox import Sandbox

            base_url = stack.enter_context(Sandbox()).url
            folder = stack.enter_context(TemporaryDirectory(prefix="refvideo-", ignore_cleanup_errors=True))
            database = Path(folder) / "ledger.db"
            state, cache, data = None, Path(folder) / "cache", Path(folder) / "data"
        consent, is_local = consent_of(settings, state, cache), _is_local(base_url)
        bucket = Bucket(settings.media_store, any_host=is_local) if settings.media_store else None
        images = Images(consent, router_is_local=is_local, bucket=bucket)
        trust = Trust()
        videos = Videos(
            settings.output_dir,
            max_mb=settings.max_video_mb,
            cache=cache,
            preview=settings.preview,
            any_host=is_local,
            transport=transport,
            trust=trust,
        )

        def router_with(key: str) -> Router:
            return Router(base_url, key, timeouts=timeouts, transport=transport, trust=trust)

        services = Services(
            router=router_with(settings.api_key),
            ledger=Ledger(database, shows_path=not settings.http),
            images=images,
            videos=videos,
            consent=consent,
            clock=time,
            pending_posts=pending_posts or PendingPosts(),
            cast=Cast(data / "cast" if data else None, shows_path=not settings.http),
            guests=Guests(data / "guests" if data else None, shows_path=not settings.http),
            hands_out_files=not settings.http,
            forgets=settings.sandbox,
            adopts=not settings.auth,
        )
        limits = Limits(settings.max_seconds_per_day, settings.max_open_jobs, MOST_CALLS if settings.auth else 0)
        own_keys = key_of if key_of is not None and not settings.sandbox else (lambda name: "")
        async with Accounts.running(services, limits, key_of=own_keys, router_with=router_with) as accounts:
            if owner:
                accounts.of(owner)  # its unfinished jobs are collected from the start
            yield ServerState(
                accounts,
                owner,
                time,
                settings.sandbox,
                settings.max_wait,
                shows_paths=not settings.http,
                confirm_above=settings.confirm_above,
                caller=caller or Caller(),
            )


def consent_of(settings: Settings, state: Path | None, cache: Path | None = None) -> Consent:
    """Which folders the settings name and the user has allowed; `cache` has the frames to go on from."""
    return Consent(
        folders=settings.image_dirs,
        output=settings.output_dir,
        frames=cache if settings.preview else None,
        state=state,
        local=not settings.http,
    )


def _is_local(base_url: str) -> bool:
    """Whether the router is on this machine itself, and so may be what it names."""
    return is_loopback(urlsplit(base_url).hostname or "")


def build_server(
    settings: Settings,
    *,
    pending_posts: PendingPosts | None = None,
    leftovers: ExitStack | None = None,
    transport: "httpx2.AsyncBaseTransport | None" = None,
    clock: Clock | None = None,
    timeouts: Timeouts | None = None,
    caller: Caller | None = None,
    key_of: Callable[[str], str] | None = None,
    on_start: Callable[[ServerState], object] = lambda state: None,
) -> MCPServer[ServerState]:
    """A server ready to be run by a door; `running` says what the arguments are, and `on_start` gets what it yields."""

    @asynccontextmanager
    async def lifespan(_: MCPServer[ServerState]) -> AsyncIterator[ServerState]:
        parts = running(
            settings,
            pending_posts=pending_posts,
            leftovers=leftovers,
            transport=transport,
            clock=clock,
            timeouts=timeouts,
            caller=caller,
            key_of=key_of,
        )
        async with parts as state:
            on_start(state)
            yield state

    tools = build_tools()
    server = MCPServer(
        "refvideo",
        title="Reference to video",
        instructions=INSTRUCTIONS,
        version=__version__,
        tools=list(tools),
        extensions=[Tasks(JobTasks()), player(_media_hosts(settings))],
        middleware=[
            *([observed({tool.name for tool in tools})] if settings.http else []),
            hear_of_cancelled,
            know_caller,
            by_client,
        ],
        cache_hints={"tools/list": CacheHint(ttl_ms=TOOLS_KEEP_MS)},  # private: a list may depend on the client
        log_level=settings.log_level.upper(),  # type: ignore[arg-type]  # read from a list of the same names
        lifespan=lifespan,
        request_state_security=_sealed_with(settings.secret),
    )
    for prompt in build_prompts():
        server.add_prompt(prompt)
    server.add_resource(CastResource.build())
    server.completion()(complete_names)  # type: ignore[no-untyped-call]  # the SDK gives the decorator no types
    return server


def _sealed_with(secret: str) -> RequestStateSecurity | None:
    """How confirmations are sealed that a client brings back; None: with a key of this process's own."""
    return RequestStateSecurity(keys=[sha256(f"confirmations {secret}".encode()).digest()]) if secret else None


def _media_hosts(settings: Settings) -> list[str]:
    """A router on this machine hands out its videos itself; where other routers keep theirs is not known."""
    router = urlsplit(settings.base_url)
    is_known = is_loopback(router.hostname or "") and not settings.sandbox  # a sandbox of our own has no port yet
    return [f"{router.scheme}://{router.netloc}"] if is_known else []
