"""Pictures on their way from the player's page, in pieces: a page may call tools, and nothing else."""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.schemas import ChosenPicture

__all__ = ["Uploads"]

LARGEST_BYTES = 20 * 2**20
# The three largest pictures of one subject. An account that begins more gives up the oldest that it has not finished.
BYTES_OF_ACCOUNT = 3 * LARGEST_BYTES
BYTES_IN_ALL = 3 * BYTES_OF_ACCOUNT
KEPT_SECONDS = 300.0
AGAIN = "Send the pictures again."


@dataclass
class _Upload:
    files: tuple[ChosenPicture, ...]
    touched: float
    content: bytearray = field(default_factory=bytearray)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def cut(self) -> list[bytes]:
        """The files' contents."""
        whole, begin, found = memoryview(self.content), 0, []
        for file in self.files:
            found.append(bytes(whole[begin : begin + file.size]))
            begin += file.size
        return found


class Uploads:
    """Those that are not finished, of all accounts, in memory; forgotten five minutes after their last piece."""

    def __init__(self) -> None:
        self._unfinished: dict[tuple[str, str], _Upload] = {}

    def add(
        self, account: str, upload: str, files: Sequence[ChosenPicture], offset: int, data: str, now: float
    ) -> list[bytes] | None:
        """Take a piece, which is base64 and begins at `offset` of all files together; their contents after the last.

        `upload` is the page's own name for it, and `now` is in steady seconds.

        Raises:
            Refused: something is too large, too much is on its way, or earlier pieces are gone.
        """
        self._forget(now)
        begun = self._unfinished.get((account, upload))
        if begun is None and offset == 0:
            begun = self._begin(account, upload, files, now)
        try:
            piece = binascii.a2b_base64(data, strict_mode=True)
        except ValueError:
            raise Refused("A piece of the pictures arrived damaged.", AGAIN) from None
        if begun is None or begun.files != tuple(files) or len(begun.content) != offset:
            raise Refused("The upload was interrupted, and what had arrived is gone.", AGAIN)
        if not piece or offset + len(piece) > begun.size:
            raise Refused("The pictures are not as large as they were said to be.", AGAIN)
        begun.content += piece
        begun.touched = now
        if len(begun.content) < begun.size:
            return None
        return self._unfinished.pop((account, upload)).cut()

    def _begin(self, account: str, upload: str, files: Sequence[ChosenPicture], now: float) -> _Upload:
        for file in files:
            if file.size > LARGEST_BYTES:
                name, megabytes = clean(file.name, 60), round(file.size / 1e6)
                raise Refused(f"{name} has {megabytes} MB; 20 MB are the most.", "Use a smaller picture.")
        new = _Upload(tuple(files), now)
        own = [key for key in self._unfinished if key[0] == account]  # oldest first
        while sum(self._unfinished[key].size for key in own) + new.size > BYTES_OF_ACCOUNT:
            del self._unfinished[own.pop(0)]
        if sum(one.size for one in self._unfinished.values()) + new.size > BYTES_IN_ALL:
            raise Refused("Too many pictures are on their way to this server.", "Try again in a few minutes.")
        self._unfinished[account, upload] = new
        return new

    def _forget(self, now: float) -> None:
        for key in [key for key, one in self._unfinished.items() if now - one.touched > KEPT_SECONDS]:
            del self._unfinished[key]
