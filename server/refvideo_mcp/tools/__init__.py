"""The MCP tools."""

from refvideo_mcp.tools.apps import add_pictures, read_video_piece
from refvideo_mcp.tools.cast import CastResource, complete_names, know_caller
from refvideo_mcp.tools.field import with_field
from refvideo_mcp.tools.observed import observed
from refvideo_mcp.tools.spec_tool import SpecTool
from refvideo_mcp.tools.state import ACCOUNT, HUNG_UP, PLAYER, ServerState, hear_of_cancelled, state_in
from refvideo_mcp.tools.tools import answer_about, generate_reference_video, get_task_result, list_reference_videos

__all__ = [
    "ACCOUNT",
    "HUNG_UP",
    "INSTRUCTIONS",
    "PLAYER",
    "CastResource",
    "ServerState",
    "answer_about",
    "build_tools",
    "complete_names",
    "hear_of_cancelled",
    "know_caller",
    "observed",
    "state_in",
    "with_field",
]

INSTRUCTIONS = (
    "Makes short videos that keep the people or things of reference pictures. Two steps: "
    "generate_reference_video starts a paid job and returns a task_id; get_task_result waits for it, free of charge. "
    "One subject per person or thing; name each as @id in the prompt. "
    "Pictures pasted into the chat cannot be read here: ask for a file path or URL. "
    "Never start a second job because the first is slow: call get_task_result again. "
    "When the video is ready, tell the user where the file is. "
    "list_reference_videos finds lost task ids, and what a video was made of."
)


def build_tools() -> list[SpecTool]:
    declared = (generate_reference_video, get_task_result, list_reference_videos, read_video_piece, add_pictures)
    return [build() for build in declared]
