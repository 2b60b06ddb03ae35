"""The one MCP prompt: a short brief that people pick from their client's menu."""

from typing import Annotated

from mcp.server.mcpserver.prompts import Prompt
from pydantic import Field

from refvideo_mcp.errors import clean

__all__ = ["build_prompts"]

LONGEST = 2000


def reference_video(
    idea: Annotated[str, Field(description="What happens in the video.")],
    images: Annotated[
        str, Field(description="Paths or URLs of the reference pictures, or @names of the cast, in any words.")
    ] = "",
) -> str:
    pictures = clean(images, LONGEST) or "none named yet: ask me for paths or URLs"
    return (
        "Make a short video from reference pictures.\n"
        f"Idea: {clean(idea, LONGEST)}\n"
        f"Pictures: {pictures}\n\n"
        "1. One subject for each person or thing, with all pictures of it; give each a short id. "
        "One of the cast (list_reference_videos names them) needs none.\n"
        "2. Write the prompt: name every subject as @id; what moves and how first, then scene and camera, style last; "
        "one scene of 1-10 seconds.\n"
        "3. Call generate_reference_video once: it is paid. Then get_task_result waits for the video.\n"
        "4. Tell me where the file is."
    )


def build_prompts() -> list[Prompt]:
    return [
        Prompt.from_function(
            reference_video, title="Reference video", description="Turn an idea and reference pictures into a video."
        )
    ]
