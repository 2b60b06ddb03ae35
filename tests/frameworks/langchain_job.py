"""LangChain: its adapter starts a server for every call, unless a session is kept open."""

import asyncio
import json
import os
import sys

from langchain_core.messages import HumanMessage, convert_to_openai_messages
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI

model_url, *command = sys.argv[1:]


async def main() -> None:
    server = {"transport": "stdio", "command": command[0], "args": command[1:], "env": dict(os.environ)}
    tools = await MultiServerMCPClient({"refvideo": server}).get_tools()
    by_name = {tool.name: tool for tool in tools}
    model = ChatOpenAI(model="scripted", base_url=model_url, api_key="none").bind_tools(tools)
    messages = [HumanMessage("Make the video.")]
    while (answer := await model.ainvoke(messages)).tool_calls:
        messages.append(answer)
        messages += [await by_name[call["name"]].ainvoke(call) for call in answer.tool_calls]
    convert_to_openai_messages(messages)
    print(json.dumps(answer.text))


asyncio.run(main())
