"""A model without a mind, behind OpenAI's own protocol: it orders one video, and then does what it is told to."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

__all__ = ["ScriptedModel"]


class ScriptedModel:
    """`url` is the base URL for clients of Chat Completions; `tools` are the names that it was last offered."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.url = ""
        self.tools: list[str] = []
        self._order = order

    @classmethod
    @contextmanager
    def running(cls, order: dict[str, Any]) -> Iterator["ScriptedModel"]:
        model = cls(order)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    status, said = 200, model.answer(request)
                except ValueError as error:
                    status, said = 400, {"error": {"message": str(error), "type": "invalid_request_error"}}
                answer = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            model.url = f"http://127.0.0.1:{server.server_port}/v1"
            yield model
            server.shutdown()
            thread.join()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The completion for a request: a tool call, or at the end the path of the video."""
        self.tools = sorted(tool["function"]["name"] for tool in request["tools"])
        told = [_text(message["content"]) for message in request["messages"] if message["role"] == "tool"]
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if not told:
            message["tool_calls"] = [_call("generate_reference_video", self._order)]
        elif advice := re.search(r'Call (\w+) with task_id \\?"([^"\\]+)', told[-1]):
            message["tool_calls"] = [_call(advice[1], {"task_id": advice[2]})]
        else:
            done = re.search(r'(?:the video is saved at |"saved_to": ?")(.+?\.mp4)', told[-1])
            message["content"] = done[1] if done else told[-1]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {
            "id": "completion",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [choice],
            "usage": usage,
        }


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"call-{name}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def _text(content: Any) -> str:
    """A tool's answer; some frameworks show JSON instead, of the structure or of several texts.

    Raises:
        ValueError: it is more than text, which Chat Completions refuse in a tool's message.
    """
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if others := {part["type"] for part in parts} - {"text"}:
        raise ValueError(f"Invalid content type {', '.join(sorted(others))}: a tool's message takes text only.")
    return "".join(part["text"] for part in parts)
