"""What the user allows: folders whose pictures may be sent, folders that videos may be saved in."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from refvideo_mcp.errors import InvalidCall, Refused
from refvideo_mcp.images import Grants, Images
from refvideo_mcp.schemas import ReferenceVideoRequest
from refvideo_mcp.videos import DestinationNotAllowed, Videos

__all__ = ["Permissions"]


class Permissions:
    """Asks nobody itself: it tells which folders have to be asked about, and remembers the answers.

    `saving` remembers where videos may go; None = over HTTP, where callers have no say in it.
    """

    def __init__(self, images: Images, videos: Videos, saving: Grants | None):
        self._images = images
        self._videos = videos
        self._saving = saving
        self._threads = anyio.CapacityLimiter(4)

    async def pictures_to_ask_about(self, request: ReferenceVideoRequest, roots: Sequence[Path]) -> list[Path]:
        """Folders whose pictures the call needs and that the user has not allowed."""
        return await self._images.questions(request, roots)

    async def allow_pictures(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            await self._images.allow(folder)

    async def folder_to_ask_about(self, save_to: str, roots: Sequence[Path]) -> Path | None:
        """The folder that `save_to` needs and that the user has not allowed."""
        try:
            await self.destination(save_to, roots)
        except DestinationNotAllowed as error:
            return error.folder
        except Refused:
            pass  # the call will be refused for that
        return None

    async def allow_saving(self, folder: Path) -> None:
        if self._saving is not None:
            await anyio.to_thread.run_sync(self._saving.add, folder)

    async def destination(self, save_to: str, roots: Sequence[Path]) -> Path:
        """Where `save_to` is, absolute.

        Raises:
            Refused: no video can be saved there, or the user has not allowed it.
        """
        saving = self._saving
        if saving is None:
            raise InvalidCall(
                "This server is reached over HTTP and saves no video where a call says: leave save_to out, and the "
                "answer has a link to it. Nothing was sent."
            )
        # A folder on a dead network share must not hold the caller beyond its deadline.
        return await anyio.to_thread.run_sync(
            lambda: self._videos.destination(save_to, roots, saving.folders()),
            limiter=self._threads,
            abandon_on_cancel=True,
        )
