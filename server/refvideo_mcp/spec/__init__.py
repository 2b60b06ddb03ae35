"""The request spec and the answers, as pydantic models, and the portable JSON Schema built from them."""

from refvideo_mcp.spec.answers import (
    JobAnswer,
    JobList,
    JobState,
    JobSummary,
    TaskResult,
    TaskVideo,
    VideoAnswer,
    VideoPiece,
)
from refvideo_mcp.spec.calls import GenerateCall, ListCall, PieceCall, ResultCall, is_handle
from refvideo_mcp.spec.request import ReferenceVideoRequest, SpecModel, Subject, advice
from refvideo_mcp.spec.schema import portable_schema
from refvideo_mcp.spec.sentences import read_arguments

__all__ = [
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
    "advice",
    "is_handle",
    "portable_schema",
    "read_arguments",
]
