"""The domain: submit once, wait together, collect. No MCP, no HTTP and no SQL in sight."""

from refvideo_mcp.jobs.account import Account
from refvideo_mcp.jobs.accounts import Accounts, no_key
from refvideo_mcp.jobs.answers import (
    age_of,
    answer_of,
    failure,
    is_lost,
    is_unusually_long,
    loss,
    notes_of,
    opened,
    progress_message,
    reason_of,
    status_in_words,
    trouble_of,
)
from refvideo_mcp.jobs.casting import Member, NotInCast, Order
from refvideo_mcp.jobs.follow import JobStatus
from refvideo_mcp.jobs.listing import Found, answers_of, row_note, took, usage_in_words
from refvideo_mcp.jobs.questions import about_buying, about_keeping, about_pictures, about_saving, about_twin, declined
from refvideo_mcp.jobs.recipe import lacking, recipe_of
from refvideo_mcp.jobs.rules import Limits, UncertainTwin
from refvideo_mcp.jobs.save import is_being_saved
from refvideo_mcp.jobs.services import Clock, PendingPosts, Services
from refvideo_mcp.jobs.submit import Submission
from refvideo_mcp.jobs.waiting_calls import Caller

__all__ = [
    "Account",
    "Accounts",
    "Caller",
    "Clock",
    "Found",
    "JobStatus",
    "Limits",
    "Member",
    "NotInCast",
    "Order",
    "PendingPosts",
    "Services",
    "Submission",
    "UncertainTwin",
    "about_buying",
    "about_keeping",
    "about_pictures",
    "about_saving",
    "about_twin",
    "age_of",
    "answer_of",
    "answers_of",
    "declined",
    "failure",
    "is_being_saved",
    "is_lost",
    "is_unusually_long",
    "lacking",
    "loss",
    "no_key",
    "notes_of",
    "opened",
    "progress_message",
    "reason_of",
    "recipe_of",
    "row_note",
    "status_in_words",
    "took",
    "trouble_of",
    "usage_in_words",
]
