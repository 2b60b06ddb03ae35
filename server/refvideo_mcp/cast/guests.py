"""Guests of a cast: pictures that somebody gave in a chat, for a day."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from refvideo_mcp.cast.cast import Cast
from refvideo_mcp.cast.member import Member, delete, read
from refvideo_mcp.images import Picture

__all__ = ["Guests"]

MOST_GUESTS = 20
GUEST_SECONDS = 24 * 3600.0


class Guests(Cast):
    """Members for a day: pictures that somebody gave in a chat, where they have no path.

    `is_watched`: somebody sees to it that they are forgotten in time.
    """

    is_watched = False

    def give(self, account: str, name: str, pictures: Sequence[Picture], now: float) -> None:
        """Take the pictures in the place of earlier ones. An account with too many guests loses its oldest.

        Raises:
            InvalidCall: the name is too long.
            CastError: they cannot be written.
        """
        self.forget(now)
        for member in self.members(account)[MOST_GUESTS - 1 :]:
            self.remove(account, member.name)
        self.keep(account, name, pictures, replaces=True, now=now)

    def here(self, account: str, name: str, now: float) -> tuple[Member, tuple[Picture | str, ...]] | None:
        """A guest and its pictures.

        Raises:
            CastError: they cannot be read.
        """
        found = self.load(account, name)
        if found is None or found[0].last_used_at <= now - GUEST_SECONDS:
            return None
        member, pictures = found
        return replace(member, is_guest=True), pictures

    def forget(self, now: float) -> bool:
        """Delete those of all accounts whose day is over; whether there are others.

        Raises:
            CastError: they cannot be read or deleted.
        """
        are_left = False
        for around in self._entries(self._root):
            with self._locked(around):
                for folder in self._entries(around):
                    if _last_used(folder) > now - GUEST_SECONDS:
                        are_left = True
                    else:
                        delete(folder)
        return are_left


def _last_used(folder: Path) -> float:
    try:
        return read(folder).last_used_at
    except (FileNotFoundError, ValueError):  # a process was killed before it was a member, or it is damaged
        return folder.stat().st_mtime
