"""OpenAI Agents SDK: it drops a call after 5 s, unless told otherwise."""

import asyncio
import json
import os
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI

model_url, *command = sys.argv[1:]


async def main() -> None:
    set_tracing_disabled(True)
    params = {"command": command[0], "args": command[1:], "env": dict(os.environ)}
    model = OpenAIChatCompletionsModel("scripted", AsyncOpenAI(base_url=model_url, api_key="none"))
    async with MCPServerStdio(params, client_session_timeout_seconds=60) as server:
        agent = Agent("maker", model=model, mcp_servers=[server])
        print(json.dumps((await Runner.run(agent, "Make the video.", max_turns=30)).final_output))


asyncio.run(main())
