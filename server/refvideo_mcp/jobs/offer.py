"""What a call would buy, found out without buying it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.draft import prepare
from refvideo_mcp.jobs.rules import Here, Limits, decide, in_words, seconds_left
from refvideo_mcp.ledger import Day, Draft, before_buying
from refvideo_mcp.schemas import ReferenceVideoRequest

__all__ = ["Offer", "offer"]


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

    def decided(day: Day) -> Offer:
        day = here.added_to(day, now)
        buys = isinstance(decide(draft, day, now, limits, here), Draft)
        return Offer(buys, in_words(seconds_left(day.seconds, limits), limits))

    with before_buying():
        return await crew.ask(crew.ledger.consider, draft, decided, now, here.kept)
