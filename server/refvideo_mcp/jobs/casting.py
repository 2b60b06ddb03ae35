"""What the cast has to do with a call: pictures that it lends, and pictures that it is to keep."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import anyio

from refvideo_mcp.cast import Cast, CastError, Guests, Member, SavedPicture, listed
from refvideo_mcp.errors import Advice, InvalidCall, clean
from refvideo_mcp.images import LoadedRequest, Picture
from refvideo_mcp.jobs.recipe import CAST
from refvideo_mcp.jobs.services import Services
from refvideo_mcp.schemas import GenerateCall, ReferenceVideoRequest, Subject
from refvideo_mcp.videos import portrait

__all__ = ["Keep", "Member", "NotInCast", "Order", "OwnCast", "ToKeep", "watch_guests"]

log = logging.getLogger(__name__)

WATCH_SECONDS = 3600.0
DISK_SECONDS = 15.0
HUNG = Advice(
    "Nothing was sent or bought. Give the pictures themselves, and tell the user.", "Mend that, then try again."
)

P = ParamSpec("P")
T = TypeVar("T")


class NotInCast(InvalidCall):
    """Subjects without pictures whom the cast does not know: `ids`."""

    def __init__(self, happened: str, advice: str, ids: Sequence[str]):
        super().__init__(happened, advice)
        self.ids = tuple(ids)


@dataclass(frozen=True)
class Keep:
    """That the subject at this place of the request is to be kept."""

    place: int
    name: str
    about: str = ""
    replaces: bool = False


@dataclass(frozen=True)
class ToKeep:
    """Whom to keep, with pictures that are ready to be sent."""

    name: str
    pictures: tuple[Picture | str, ...]
    about: str
    voice_id: str | None
    replaces: bool


@dataclass(frozen=True)
class Order:
    """A call whose subjects all have their pictures.

    `lent` are those that the cast has as files, by what stands for them in the request; `members` are whose they are;
    `guests` are those whose pictures were given in the chat.
    """

    request: ReferenceVideoRequest
    lent: Mapping[str, Picture] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    keep: tuple[Keep, ...] = ()
    guests: tuple[str, ...] = ()

    @property
    def without_lent(self) -> ReferenceVideoRequest:
        """The request with the caller's own pictures only."""
        subjects = [
            subject.model_copy(update={"images": [image for image in subject.images if image not in self.lent]})
            for subject in self.request.subjects
        ]
        return self.request.model_copy(update={"subjects": subjects})

    def to_keep(self, loaded: LoadedRequest) -> tuple[ToKeep, ...]:
        """Whom to keep, now that the pictures are loaded: as they are without what else is in this request."""
        ready = {**loaded.pictures, **loaded.whole}
        subjects = loaded.request.subjects
        return tuple(
            ToKeep(
                keep.name,
                tuple(ready.get(image, image) for image in subjects[keep.place].images),
                keep.about,
                subjects[keep.place].voice_id,
                keep.replaces,
            )
            for keep in self.keep
        )


class OwnCast:
    """The cast of one account, asked in threads, and no call waits long for a disk that does not answer."""

    def __init__(self, services: Services, account: str):
        self._services = services
        self._cast: Cast = services.cast
        self._guests: Guests = services.guests
        self._account = account

    async def members(self) -> list[Member]:
        """Everybody who can be read, the last used first.

        Raises:
            CastError: nobody can.
        """
        return await self._asked(self._cast.members, self._account)

    async def portraits(self, members: Sequence[Member]) -> list[bytes | None]:
        """A small JPEG of each, where one of the pictures is a file."""
        return [await self._services.on_disk(_portrait, member) for member in members]

    async def order(self, call: GenerateCall) -> Order:
        """The call with the cast's pictures for those subjects that have none.

        Raises:
            NotInCast: the cast does not know one of them.
            CastError: it cannot be read.
        """
        wanted = [subject.id for subject in call.subjects if subject.images is None]
        found = await self._asked(self._lent, call, wanted) if wanted else {}
        lent: dict[str, Picture] = {}
        subjects = []
        for called in call.subjects:
            given: dict[str, Any] = called.model_dump(include={"id", "images", "voice_id"}, exclude_unset=True)
            if called.images is None:
                member, pictures = found[called.id]
                names = [f"{CAST}{member.name}/{number}" for number in range(1, len(pictures) + 1)]
                images = dict(zip(names, pictures, strict=True))
                lent |= {name: picture for name, picture in images.items() if isinstance(picture, Picture)}
                given["images"] = [name if name in lent else picture for name, picture in images.items()]
                if member.voice_id and called.voice_id is None and call.audio:
                    given["voice_id"] = member.voice_id
            subjects.append(Subject.model_construct(**given))
        borrowed = [name for name in wanted if any(isinstance(picture, Picture) for picture in found[name][1])]
        return Order(
            call.request(subjects),
            lent,
            tuple(name for name in borrowed if not found[name][0].is_guest),
            tuple(
                Keep(place, called.id, called.about or "", called.remember == "replace")
                for place, called in enumerate(call.subjects)
                if called.remember
            ),
            tuple(name for name in borrowed if found[name][0].is_guest),
        )

    @property
    def takes_guests(self) -> bool:
        """Whether pictures can be given in a chat."""
        return self._guests.has_place

    async def give(self, name: str, pictures: Sequence[Picture]) -> None:
        """Take pictures that somebody gave in the chat: for a day, a subject of this name without any has these.

        Raises:
            InvalidCall: they would not be: the cast has another one of that name by now.
            CastError: they cannot be written.
        """
        await self._services.on_disk(self._give, name, pictures)

    async def new_names(self, order: Order) -> list[str]:
        """The names that the order wants to have kept and nobody has.

        Raises:
            InvalidCall, CastError: they could not be kept.
        """
        return await self._asked(self._new_names, order) if order.keep else []

    async def check(self, wanted: Sequence[ToKeep]) -> None:
        """That they could be kept.

        Raises:
            InvalidCall, CastError: they could not.
        """
        for one in wanted:
            await self._asked(self._cast.check, self._account, one.name, one.pictures, replaces=one.replaces)

    async def keep(self, one: ToKeep) -> None:
        """Keep one.

        Raises:
            InvalidCall, CastError: it could not.
        """
        await self._services.on_disk(
            self._cast.keep,
            self._account,
            one.name,
            one.pictures,
            about=one.about,
            voice_id=one.voice_id,
            replaces=one.replaces,
            now=self._services.clock.now(),
        )

    async def used(self, name: str) -> None:
        """Remember that one was sent.

        Raises:
            CastError: it cannot be written.
        """
        await self._services.on_disk(self._cast.used, self._account, name, self._services.clock.now())

    async def member(self, name: str) -> Member:
        """One whose pictures are all there.

        Raises:
            InvalidCall: there is none of that name.
            CastError: it cannot be read.
        """
        found = await self._asked(self._cast.load, self._account, name)
        if found is None:
            raise await self._asked(self._cast.unknown, self._account, name)
        return found[0]

    async def damaged(self) -> list[tuple[Path, str | None]]:
        """Folders of those that cannot be lent, with their names where these can still be read.

        Raises:
            CastError: nobody can be read.
        """
        return await self._asked(self._cast.damaged, self._account)

    async def rename(self, old: str, new: str) -> None:
        """Call one by another name.

        Raises:
            InvalidCall: there is none of the old name, or one of the new.
            CastError: it cannot be written.
        """
        await self._asked(self._cast.rename, self._account, old, new)

    async def remove(self, name: str) -> Member | None:
        """Delete one; what it was, None if it was damaged.

        Raises:
            InvalidCall: there is none of that name.
            CastError: it cannot be deleted.
        """
        member = None
        with suppress(CastError):
            member = await self._asked(self._cast.get, self._account, name)
        await self._asked(self._cast.remove, self._account, name)
        return member

    async def _asked(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with anyio.move_on_after(DISK_SECONDS):
            return await self._services.on_disk(function, *args, **kwargs)
        raise CastError(f"The disk of the cast did not answer within {DISK_SECONDS:.2g} s.", HUNG)

    def _give(self, name: str, pictures: Sequence[Picture]) -> None:
        if self._cast.get(self._account, name) is not None:
            raise InvalidCall(f"The cast has @{clean(name, 40)} by now.", "These pictures are not needed.")
        self._guests.give(self._account, name, pictures, self._services.clock.now())

    def _lent(self, call: GenerateCall, wanted: Sequence[str]) -> dict[str, tuple[Member, tuple[Picture | str, ...]]]:
        now = self._services.clock.now()
        found = {
            name: self._cast.load(self._account, name) or self._guests.here(self._account, name, now) for name in wanted
        }
        missing = [name for name, member in found.items() if member is None]
        if missing:
            raise self._not_in_cast(call, missing)
        return {name: member for name, member in found.items() if member is not None}

    def _not_in_cast(self, call: GenerateCall, missing: Sequence[str]) -> NotInCast:
        names = self._cast.names(self._account, missing[0]) if self._cast.has_place else []
        if names:
            return NotInCast(
                f"No images are given for {listed(missing)}, and nobody of that name is in the cast: "
                f"it has {listed(names)}.",
                "Take one of these, or give the pictures. Nothing was sent or bought.",
                missing,
            )
        rule = Subject.model_fields["images"].description
        places = [place for place, subject in enumerate(call.subjects) if subject.images is None]
        told = [f"`subjects[{place}].images` is missing: {rule}" for place in places]
        if not self._cast.has_place:
            told.append("This server keeps no pictures (the setting REFVIDEO_DATA_DIR).")
        return NotInCast(" ".join(told), "Nothing was sent or bought: correct this and try again.", missing)

    def _new_names(self, order: Order) -> list[str]:
        new = []
        for keep in order.keep:
            try:
                is_known = self._cast.get(self._account, keep.name) is not None
            except CastError:
                if not keep.replaces:
                    raise
                is_known = True
            if not is_known:
                self._cast.check(self._account, keep.name, (), replaces=keep.replaces)
                new.append(keep.name)
        return new


async def watch_guests(services: Services) -> None:
    """Forget pictures that were given in a chat when their day is over, until none are left."""
    guests = services.guests
    if guests.is_watched or not guests.has_place:
        return
    guests.is_watched = True
    try:
        while await services.on_disk(guests.forget, services.clock.now()):
            await services.clock.sleep(WATCH_SECONDS)
    except CastError as error:
        log.warning("%s", error.happened)
    finally:
        guests.is_watched = False


def _portrait(member: Member) -> bytes | None:
    files = [picture.path for picture in member.pictures if isinstance(picture, SavedPicture)]
    return portrait(files[0]) if files else None
