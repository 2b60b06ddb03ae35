"""What a running server hands its tools."""

from dataclasses import dataclass, field, replace
from typing import Any

from mcp.server.mcpserver import Context

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs import Account, Caller, Clock

__all__ = ["HUNG_UP", "JOB_FACTS", "PLAYER", "Ctx", "ServerState", "caller_of", "state_of"]

# Where a door puts into a request's scope a function that says whether its connection was closed meanwhile.
HUNG_UP = "refvideo.hung_up"
# The page that shows a job.
PLAYER = "ui://refvideo/player.html"
# Where in a result's `_meta` the player finds what it cannot know otherwise.
JOB_FACTS = "refvideo/job"


@dataclass(frozen=True)
class ServerState:
    """`own` is None while no key is set, or while settings cannot be used: then `fault` says which.

    `max_wait` is in seconds, None = by the client's name.

    `caller` is who calls, as far as the door knows before any call.

    `shows_paths` is False over HTTP, where paths are the server's and mean nothing to a caller.
    `confirm_above` is in seconds of video, None = never.
    """

    own: Account | None
    clock: Clock
    sandbox: bool = False
    max_wait: int | None = None
    shows_paths: bool = True
    confirm_above: int | None = None
    fault: str = ""
    caller: Caller = field(default_factory=Caller)

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
        if self.own is None:
            raise Refused(
                "No API key is set, so no job can be started or read.",
                "Ask the user to put MYROUTER_API_KEY into this server's configuration and to restart it. "
                "MYROUTER_API_KEY=sandbox needs no account: it simulates the router and costs nothing.",
            )
        return self.own

    @property
    def sign(self) -> str:
        """What every answer begins with."""
        return "[sandbox] " if self.sandbox else ""


Ctx = Context[ServerState, Any]


def state_of(ctx: Ctx) -> ServerState:
    return ctx.request_context.lifespan_context


def caller_of(ctx: Ctx) -> Caller:
    """Who makes the call that has just arrived."""
    request, state = ctx.request_context, state_of(ctx)
    caller = replace(state.caller, begun=state.clock.steady(), request=str(request.request_id))
    hung_up = getattr(request.request, "scope", {}).get(HUNG_UP)
    return caller if hung_up is None else replace(caller, hung_up=hung_up)
