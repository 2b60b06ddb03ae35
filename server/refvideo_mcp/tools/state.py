"""What a running server hands its tools."""

from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from mcp.server.apps import client_supports_apps
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs import Account, Accounts, Caller, Clock, no_key

__all__ = [
    "ACCOUNT",
    "HUNG_UP",
    "JOB_FACTS",
    "PLAYER",
    "Ctx",
    "ServerState",
    "caller_of",
    "hear_of_cancelled",
    "state_in",
    "state_of",
]

# Where a door puts into a request's scope the name of its account, if callers have one each.
ACCOUNT = "refvideo.account"
# Where it puts a function that says whether its connection was closed meanwhile.
HUNG_UP = "refvideo.hung_up"
# The page that shows a job.
PLAYER = "ui://refvideo/player.html"
# Where in a result's `_meta` the player finds what it cannot know otherwise.
JOB_FACTS = "refvideo/job"


@dataclass(frozen=True)
class ServerState:
    """`accounts` is None while no key is set, or while settings cannot be used: then `fault` says which.

    `owner` names the account of whoever makes the request.

    `max_wait` is in seconds, None = by the client's name.

    `caller` is who calls, as far as the door knows before any call; `callers` are those whose calls are under way, or
    were answered moments ago, with the names of their accounts.

    `shows_paths` is False over HTTP, where paths are the server's and mean nothing to a caller.
    `confirm_above` is in seconds of video, None = never.
    """

    accounts: Accounts | None
    owner: str
    clock: Clock
    sandbox: bool = False
    max_wait: int | None = None
    shows_paths: bool = True
    confirm_above: int | None = None
    fault: str = ""
    caller: Caller = field(default_factory=Caller)
    callers: WeakKeyDictionary[Caller, str] = field(default_factory=WeakKeyDictionary)

    @property
    def account(self) -> Account:
        """The account whose jobs its callers see.

        Raises:
            Refused: no key is set, or settings cannot be used.
        """
        if self.fault:
            raise Refused(
                self.fault,
                "Nothing was sent or bought. Ask the user to correct it in this server's configuration and restart it.",
            )
        if self.accounts is None:
            raise no_key()
        if not self.owner:
            raise RuntimeError("a request without an account has come through the door")
        return self.accounts.of(self.owner)

    @property
    def sign(self) -> str:
        """What every answer begins with."""
        return "[sandbox] " if self.sandbox else ""


Ctx = Context[ServerState, Any]


def state_of(ctx: Ctx) -> ServerState:
    return state_in(ctx.request_context)


def state_in(request: ServerRequestContext[Any, Any]) -> ServerState:
    """What the request's tools work with: this is the one place that reads who makes it."""
    state: ServerState = request.lifespan_context
    owner = getattr(request.request, "scope", {}).get(ACCOUNT)
    return state if owner is None else replace(state, owner=owner)


def caller_of(ctx: Ctx) -> Caller:
    """Who makes the call that has just arrived."""
    request = ctx.request_context
    state = state_in(request)
    caller = replace(
        state.caller,
        begun=state.clock.steady(),
        request=str(request.request_id),
        shows_subjects=client_supports_apps(ctx),
    )
    if hung_up := getattr(request.request, "scope", {}).get(HUNG_UP):
        caller = replace(caller, hung_up=hung_up)
    state.callers[caller] = state.owner
    return caller


async def hear_of_cancelled(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware that tells a caller that its client cancelled the request.

    The SDK ends a handler that is under way; not one whose answer crosses the cancel, nor any where each HTTP request
    stands for itself. There another client of the account may have a request of the same id: then an answer counts as
    dropped that was not, which buys nothing. Nor does the SDK's own client name the call when it is cancelled while it
    checks an answer, for which it first lists the tools: then it cancels the list.
    """
    if ctx.method == "tools/list":
        for caller in _callers(state_in(ctx)):
            caller.then_listed = str(ctx.request_id)
    if ctx.method == "notifications/cancelled":
        request = str((ctx.params or {}).get("requestId"))
        for caller in _callers(state_in(ctx)):
            if request in (caller.request, caller.then_listed):
                caller.gave_up.set()
    return await call_next(ctx)


def _callers(state: ServerState) -> list[Caller]:
    return [caller for caller, owner in list(state.callers.items()) if owner == state.owner]
