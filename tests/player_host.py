"""A chat app that shows MCP Apps: a page in Chromium with the official bridge, and a client of the real server."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client._transport import Transport
from mcp.client.extension import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, Implementation, TextResourceContents
from playwright.async_api import Browser, FrameLocator, Page, Request, Route, async_playwright

from node_tools import node_modules
from programs import needs

__all__ = ["EVERYTHING", "SHOWS_APPS", "Chat", "ChatApp", "Player", "browsing"]

SHOWS_APPS = advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})
FLAGS = [
    # Nobody is there to allow the page what lies on this machine.
    "--disable-features=LocalNetworkAccessChecks",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EVERYTHING: dict[str, Any] = {
    "serverTools": {},
    "message": {"text": {}},
    "updateModelContext": {"text": {}},
    "openLinks": {},
    "downloadFile": {},
}
_HERE = Path(__file__).parent
_JAVASCRIPT = "text/javascript"


def policy(ui: dict[str, Any]) -> str:
    """The Content-Security-Policy that the specification has a host make of a page's metadata."""
    media = " ".join(["'self'", "data:", *ui.get("csp", {}).get("resourceDomains", [])])
    return (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        f"img-src {media}; media-src {media}; connect-src 'none'"
    )


@dataclass
class Player:
    """The player's page, as it stands in the chat. `fetched` are the links that it asked a router for."""

    page: Page
    frame: FrameLocator
    fetched: list[str]

    async def input(self, **arguments: Any) -> None:
        await self.page.evaluate("args => bridge.sendToolInput({ arguments: args })", arguments)

    async def result(self, result: CallToolResult) -> None:
        shown = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        await self.page.evaluate("result => bridge.sendToolResult(result)", shown)

    async def asked(self, kind: str) -> list[dict[str, Any]]:
        """What the page has asked of its host so far."""
        return [one for one in await self.page.evaluate("asked") if one["kind"] == kind]

    async def settled(self, phase: str) -> None:
        await self.frame.locator(f'main[data-phase="{phase}"]').wait_for()

    async def until(self, script: str) -> None:
        """Until this function of the page's document is true."""
        frame = next(frame for frame in self.page.frames if frame.url.startswith("http://view.test"))
        await frame.wait_for_function(script)

    async def evaluate(self, script: str) -> Any:
        frame = next(frame for frame in self.page.frames if frame.url.startswith("http://view.test"))
        return await frame.evaluate(script)

    async def screenshot(self, name: str) -> None:
        """Keep a picture, where REFVIDEO_SCREENSHOTS names a folder for them."""
        if folder := os.environ.get("REFVIDEO_SCREENSHOTS"):
            await self.until("() => Math.ceil(document.body.getBoundingClientRect().height) === innerHeight")
            box = await self.page.locator("body").bounding_box()
            await self.page.screenshot(path=Path(folder) / f"{name}.png", clip=box, animations="disabled")


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Chromium; the test is skipped where there is none."""
    chromium = needs("chromium", "chromium-browser", "google-chrome")
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=chromium, args=FLAGS)


class ChatApp:
    def __init__(self, client: Client, page: Page, fetched: list[str]) -> None:
        self.client = client
        self.page = page
        self._fetched = fetched

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        browser: Browser,
        server: MCPServer[Any] | Transport | str,
        *,
        width: int = 760,
        height: int = 1000,
        is_phone: bool = False,
    ) -> AsyncIterator["ChatApp"]:
        """A page of its own, and a client that declares MCP Apps; of a server in memory, pipes or an address."""
        packages = node_modules()
        info = Implementation(name="a chat", version="1")
        async with (
            Client(server, extensions=[SHOWS_APPS], client_info=info) as client,
            await browser.new_context(
                viewport={"width": width, "height": height},
                device_scale_factor=2,
                has_touch=is_phone,
                is_mobile=is_phone,
            ) as context,
        ):
            page = await context.new_page()
            fetched: list[str] = []

            def note(request: Request) -> None:
                if "/files/" in request.url:
                    fetched.append(request.url)

            page.on("request", note)

            async def file(route: Route) -> None:
                path = route.request.url.removeprefix("http://chat.test/")
                if path.startswith("node_modules/"):
                    found = packages / path.removeprefix("node_modules/")
                    await route.fulfill(body=found.read_bytes(), content_type=_JAVASCRIPT)
                else:
                    await route.fulfill(body=(_HERE / "player_host.html").read_bytes(), content_type="text/html")

            async def call_tool(params: dict[str, Any]) -> dict[str, Any]:
                result = await client.call_tool(params["name"], params.get("arguments"), meta=params.get("_meta"))
                return result.model_dump(mode="json", by_alias=True, exclude_none=True)

            await page.route("http://chat.test/**", file)
            await page.expose_function("call_tool", call_tool)
            await page.goto("http://chat.test/")
            await page.wait_for_function("window.is_ready")
            yield cls(client, page, fetched)

    async def open(self, tool: str, *, capabilities: dict[str, Any] = EVERYTHING, **context: Any) -> Player:
        """The page that this tool names, in a frame whose policy is what the page declares."""
        entry = next(t for t in (await self.client.list_tools()).tools if t.name == tool)
        assert entry.meta is not None
        address = entry.meta["ui"]["resourceUri"]
        (content,) = (await self.client.read_resource(address)).contents
        assert isinstance(content, TextResourceContents)
        assert content.mime_type == APP_MIME_TYPE
        ui = (content.meta or {}).get("ui", {})

        async def view(route: Route) -> None:
            headers = {"Content-Security-Policy": policy(ui), "Content-Type": "text/html; charset=utf-8"}
            await route.fulfill(body=content.text, headers=headers)

        await self.page.route("http://view.test/", view)
        opened = {"capabilities": capabilities, "context": context, "permissions": ui.get("permissions", {})}
        await self.page.evaluate("options => open_player(options)", json.loads(json.dumps(opened)))
        return Player(self.page, self.page.frame_locator("iframe"), self._fetched)


# Opens a chat app; a module of tests says what with.
Chat = Callable[..., AbstractAsyncContextManager[ChatApp]]
