"""The MCP Apps extension: the page as a resource, and who gets to see what is only for apps."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp.server.apps import Apps, ResourceCsp, ResourcePermissions, client_supports_apps
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from refvideo_mcp.tools import PLAYER

__all__ = ["for_apps_only", "hide_from_others", "player"]

_HERE = Path(__file__).parent
_STYLE = re.compile(r'<link rel="stylesheet" href="([a-z]+\.css)">')
_SCRIPT = re.compile(r'<script src="([a-z]+\.js)"></script>')


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


async def hide_from_others(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware that keeps the lists of all other clients as short as if there were no app."""
    result = await call_next(ctx)
    listed = {"tools/list": "tools", "resources/list": "resources"}.get(ctx.method)
    if listed and isinstance(result, dict) and not client_supports_apps(ctx):
        return {**result, listed: [entry for entry in result[listed] if not for_apps_only(entry)]}
    return result


def _page() -> str:
    """Its files as one document, because a host loads nothing beside it."""
    html = _STYLE.sub(lambda found: f"<style>\n{_text(found[1])}</style>", _text("index.html"))
    return _SCRIPT.sub(lambda found: f"<script>\n{_text(found[1])}</script>", html)


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
