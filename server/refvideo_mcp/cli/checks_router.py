"""What the doctor asks the router: one free question about a task that does not exist."""

import uuid
from urllib.parse import urlsplit

from refvideo_mcp.cli.check import Check
from refvideo_mcp.errors import ReadRefused, RefvideoError, UnknownTask
from refvideo_mcp.router import Router
from refvideo_mcp.settings import Settings, is_loopback

__all__ = ["ask_router", "gateway", "not_asked"]

MOST_SECONDS_APART = 120.0
# All serve the same paths; a key belongs to one of them.
GATEWAYS = {
    "api.myrouter.ai": "MyRouter",
    "api.novita.ai": "Novita",
    "api.ppio.com": "PPIO",
    "api.jiekou.ai": "Jiekou",
}


def gateway(settings: Settings) -> Check:
    """Whose host it is."""
    host = urlsplit(settings.base_url).hostname or ""
    if settings.sandbox:
        return Check("gateway", None, "a sandbox in each process")
    if is_loopback(host):
        return Check("gateway", True, f"{settings.base_url}, this machine: a sandbox, or a proxy of yours")
    if host in GATEWAYS:
        return Check("gateway", True, f"{settings.base_url} ({GATEWAYS[host]})")
    return Check("gateway", None, f"{settings.base_url} is none that is known here; fine if you know it")


async def ask_router(settings: Settings) -> list[Check]:
    """Whether anybody answers, whether the key is taken, and whether the clocks agree."""
    router = Router(settings.base_url, settings.api_key)
    trouble: RefvideoError | None = None
    try:
        await router.task_result(f"refvideo-doctor-{uuid.uuid4().hex}")
    except RefvideoError as error:
        trouble = error
    finally:
        await router.aclose()
    if trouble is not None and not router.answered:
        remedy = "Check the network, the proxy and MYROUTER_BASE_URL."
        return [Check("router", False, trouble.happened, remedy), *not_asked("nobody answered", ("accepted", "clock"))]
    return [Check("router", True, f"{router.host} answers"), _accepted(router, trouble), _clock(router.clock_ahead)]


def not_asked(why: str, names: tuple[str, ...] = ("router", "accepted", "clock")) -> list[Check]:
    return [Check(name, None, f"not asked: {why}") for name in names]


def _accepted(router: Router, trouble: RefvideoError | None) -> Check:
    match trouble:
        case None:
            return Check("accepted", True, f"{router.host} takes the key")
        case UnknownTask() if trouble.reason == "TASK_NOT_FOUND":
            return Check("accepted", True, f"{router.host} takes the key")
        case UnknownTask():  # any web server says 404
            return Check("accepted", False, f"{router.host} is no such router.", "Check MYROUTER_BASE_URL.")
        case ReadRefused():
            return Check("accepted", False, trouble.happened, trouble.advice.for_person)
        case _:
            return Check("accepted", False, f"{trouble.happened} So nobody knows.", "Try again in a minute.")


def _clock(ahead: float | None) -> Check:
    if ahead is None:
        return Check("clock", None, "the router tells no time")
    if abs(ahead) <= MOST_SECONDS_APART:
        return Check("clock", True, "as the router's")
    apart = f"{abs(ahead) / 60:.0f} minutes {'behind' if ahead > 0 else 'ahead of'} the router's"
    return Check("clock", False, f"This machine's is {apart}.", "Set it: links and the allowance go by it.")
