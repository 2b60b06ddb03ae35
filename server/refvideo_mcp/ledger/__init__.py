"""What was submitted, by whom, and what became of it."""

from refvideo_mcp.ledger.errors import LedgerError, before_buying
from refvideo_mcp.ledger.job import ENDED, OPEN, Day, Draft, Job, Video
from refvideo_mcp.ledger.store import Ledger

__all__ = ["ENDED", "OPEN", "Day", "Draft", "Job", "Ledger", "LedgerError", "Video", "before_buying"]
