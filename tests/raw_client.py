"""A whole MCP client without an SDK. `python raw_client.py PICTURE COMMAND...` prints where the video is."""

import json
import subprocess
import sys
from typing import Any

picture, *command = sys.argv[1:]
server: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), file=server.stdin, flush=True)


def ask(method: str, **params: Any) -> Any:
    send(id=method, method=method, params=params)  # one question at a time: its name will do for an id
    answer = next(answer for line in server.stdout if "id" in (answer := json.loads(line)))  # the rest is news
    if "error" in answer:
        sys.exit(answer["error"]["message"])
    return answer["result"]


def call(tool: str, **arguments: Any) -> Any:
    result = ask("tools/call", name=tool, arguments=arguments)
    if result["isError"]:
        sys.exit(result["content"][0]["text"])
    return result["structuredContent"]


ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "raw", "version": "1"})
send(method="notifications/initialized")
subjects = [{"id": "fox", "images": [picture]}]
job = call("generate_reference_video", prompt="@fox waves", subjects=subjects, duration=1, resolution="540p")
while job["state"] != "succeeded":  # failed would have been an error
    job = call("get_task_result", task_id=job.get("task_id") or job["idempotency_key"])
print(job["videos"][0].get("saved_to") or job["videos"][0]["url"])
server.stdin.close()
