"""What a call would buy, found out without buying it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.draft import prepare
from refvideo_mcp.jobs.rules import DAY_SECONDS, Here, Limits, decide, in_words, seconds_left
from refvideo_mcp.ledger import Draft, before_buying
from refvideo_mcp.spec import ReferenceVideoRequest

__all__ = ["Offer", "offer"]

MOST_JOBS = 1000


@dataclass(frozen=True)
class Offer:
    """`buys`: a new job, not one that the call would join. `allowance`: what is left of it before."""

    buys: bool
    allowance: str


async def offer(
    crew: Crew,
    limits: Limits,
    here: Here,
    request: ReferenceVideoRequest,
    roots: Sequence[Path],
    key: str | None,
) -> Offer:
    """As `decide` would have it now.

    Raises:
        Refused: the call would be refused.
    """
    now = crew.clock.now()
    draft = (await prepare(crew, request, roots, key=key)).draft
    with before_buying():
        newest = await crew.ask(crew.ledger.newest, crew.account, MOST_JOBS)
    known = here.added_to([job.at(now) for job in newest if job.opened_at > now - DAY_SECONDS], now)
    return Offer(
        isinstance(decide(draft, known, now, limits, here), Draft),
        in_words(seconds_left(known, limits), limits),
    )
