"""Pydantic AI."""

import asyncio
import json
import os
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model_url, *command = sys.argv[1:]


async def main() -> None:
    model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=model_url, api_key="none"))
    transport = StdioTransport(command[0], command[1:], env=dict(os.environ))
    async with Agent(model, toolsets=[MCPToolset(transport, init_timeout=60)]) as agent:
        print(json.dumps((await agent.run("Make the video.")).output))


asyncio.run(main())
