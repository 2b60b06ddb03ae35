"""What goes in and out, as pydantic models: the request spec, the router's answers, ours; and their JSON Schema."""

from refvideo_mcp.schemas.json_schema import portable_schema
from refvideo_mcp.schemas.request import ReferenceVideoRequest, SpecModel, Subject, warnings_for
from refvideo_mcp.schemas.router_answers import JobState, TaskResult, TaskVideo
from refvideo_mcp.schemas.tool_answers import AddedPictures, JobAnswer, JobList, JobSummary, VideoAnswer, VideoPiece
from refvideo_mcp.schemas.tool_arguments import (
    AddPicturesCall,
    CalledSubject,
    ChosenPicture,
    GenerateCall,
    ListCall,
    PieceCall,
    ResultCall,
    is_handle,
)
from refvideo_mcp.schemas.validation_errors import read_arguments

__all__ = [
    "AddPicturesCall",
    "AddedPictures",
    "CalledSubject",
    "ChosenPicture",
    "GenerateCall",
    "JobAnswer",
    "JobList",
    "JobState",
    "JobSummary",
    "ListCall",
    "PieceCall",
    "ReferenceVideoRequest",
    "ResultCall",
    "SpecModel",
    "Subject",
    "TaskResult",
    "TaskVideo",
    "VideoAnswer",
    "VideoPiece",
    "is_handle",
    "portable_schema",
    "read_arguments",
    "warnings_for",
]
