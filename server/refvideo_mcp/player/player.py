"""The MCP Apps extension: the page as a resource, and who gets to see what is only for apps."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp.server.apps import EXTENSION_ID, Apps, ResourceCsp, ResourcePermissions, client_supports_apps
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from refvideo_mcp.tools import PLAYER, with_field

__all__ = ["by_client", "for_apps_only", "player"]

_HERE = Path(__file__).parent
_STYLE = re.compile(r'<link rel="stylesheet" href="([a-z]+\.css)">')
_SCRIPT = re.compile(r'<script src="([a-z]+\.js)"></script>')
_TELLING = {"initialize", "server/discover", "tools/list"}


def player(media_hosts: Sequence[str] = ()) -> Apps:
    """The extension. `media_hosts` are the origins that videos are certain to come from."""
    # A gateway's CDN shows only in the first video's link, and hosts read the page before that. Guessing with
    # wildcards would be worse than nothing: a declared domain may send scripts, too. So only what is certain is
    # declared. Elsewhere the page reads the saved file through the server, or lets the host open the link.
    csp = ResourceCsp(resource_domains=list(media_hosts)) if media_hosts else None
    apps = Apps()
    apps.add_html_resource(
        PLAYER,
        _page(),
        name="player",
        title="Video player",
        description="Shows a video job at work, then plays its video.",
        csp=csp,
        permissions=ResourcePermissions(clipboard_write={}),
        prefers_border=False,
    )
    return apps


def for_apps_only(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of tools/list or resources/list means nothing to clients that show no apps."""
    ui = (entry.get("_meta") or {}).get("ui") or {}
    return ui.get("visibility") == ["app"] or str(entry.get("uri", "")).startswith("ui:")


async def by_client(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: clients without apps are told as little as if there were none; agents of the others, of its field."""
    result = await call_next(ctx)
    if not isinstance(result, dict):
        return result
    if client_supports_apps(ctx) or _will_support_apps(ctx):
        return with_field(result) if ctx.method in _TELLING else result
    listed = {"tools/list": "tools", "resources/list": "resources"}.get(ctx.method)
    if listed:
        return {**result, listed: [entry for entry in result[listed] if not for_apps_only(entry)]}
    return result


def _will_support_apps(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether it is the handshake of such a client, and what it says there is still known in later requests."""
    if ctx.method != "initialize" or not ctx.session.can_send_request:
        return False
    capabilities = (ctx.params or {}).get("capabilities") or {}
    return EXTENSION_ID in (capabilities.get("extensions") or {})


def _page() -> str:
    """Its files as one document, because a host loads nothing beside it."""
    html = _STYLE.sub(lambda found: f"<style>\n{_text(found[1])}</style>", _text("index.html"))
    return _SCRIPT.sub(lambda found: f"<script>\n{_text(found[1])}</script>", html)


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
