"""The MCP tools."""

from mcp_types import ToolAnnotations

from refvideo_mcp.schemas import GenerateCall, JobAnswer, JobList, ListCall, PieceCall, ResultCall, VideoPiece
from refvideo_mcp.tools.apps import read_video_piece
from refvideo_mcp.tools.calls import answer_about, generate_reference_video, get_task_result, list_reference_videos
from refvideo_mcp.tools.spec_tool import SpecTool
from refvideo_mcp.tools.state import HUNG_UP, ServerState

__all__ = ["HUNG_UP", "INSTRUCTIONS", "ServerState", "answer_about", "build_tools"]

INSTRUCTIONS = (
    "Makes short videos that keep the people or things of reference pictures. Two steps: "
    "generate_reference_video starts a paid job and returns a task_id; get_task_result waits for it, free of charge. "
    "One subject per person or thing; name each as @id in the prompt. "
    "Pictures pasted into the chat cannot be read here: ask for a file path or URL. "
    "Never start a second job because the first is slow: call get_task_result again. "
    "When the video is ready, tell the user where the file is. list_reference_videos finds lost task ids."
)


def build_tools(player: str) -> list[SpecTool]:
    """`player` is the `ui://` address of the app that shows a job."""
    return [
        SpecTool.build(
            generate_reference_video,
            GenerateCall,
            JobAnswer,
            "Start ONE paid job: a 1-10 s video that keeps the people or things in reference pictures. "
            "Returns a task_id; the video takes 0.5-5 minutes, and get_task_result waits for it. "
            "Never call this again because a job is slow.",
            "Make a video",
            ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True),
            {"ui": {"resourceUri": player}},
        ),
        SpecTool.build(
            get_task_result,
            ResultCall,
            JobAnswer,
            "Wait for a job and get its video, saved to disk where possible. Free. Not ready in time: you get its "
            "state; call again, without sleeping. A link that died: call again.",
            "Wait for a video",
            ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True),
            {"ui": {"resourceUri": player}},
        ),
        SpecTool.build(
            list_reference_videos,
            ListCall,
            JobList,
            "Recent jobs and their files, newest first: for a lost task_id or an earlier video. Free.",
            "List videos",
            ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
        ),
        SpecTool.build(
            read_video_piece,
            PieceCall,
            VideoPiece,
            "For the player: a piece of a finished job's saved video.",
            "Read a piece of a video",
            ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
            {"ui": {"resourceUri": player, "visibility": ["app"]}},
        ),
    ]
