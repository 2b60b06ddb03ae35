"""The door of this room: every picture of a request is found, checked and made ready, or the request is refused."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from refvideo_mcp.errors import InvalidCall, Refused, clean
from refvideo_mcp.files import Consent, LocalFile, find, is_link, kind_of, read
from refvideo_mcp.images.bucket import Bucket
from refvideo_mcp.images.data_uri import parse_data_uri
from refvideo_mcp.images.fit_body import BODY_BYTES, fit_body
from refvideo_mcp.images.picture import Picture, prepare
from refvideo_mcp.images.url_check import check_url
from refvideo_mcp.schemas import ReferenceVideoRequest
from refvideo_mcp.schemas.coercion import unwrapped

__all__ = ["DATA_URI", "Images", "LoadedRequest"]

AT_ONCE = 2
# All pictures of a call are held before they are fitted into it.
BYTES_IN_ALL = 300_000_000
# What is remembered as the source of a picture that was in the call itself.
DATA_URI = "data URI"

Result = TypeVar("Result")


@dataclass(frozen=True)
class LoadedRequest:
    """A request whose pictures are ready to be sent: `pictures` by what stands for them in it, all but links.

    `sent` are the local files whose contents will leave. `sources` says where each of `pictures` came from. `whole` are
    the pictures that had to be made smaller, as they were, where some are to be kept.
    """

    request: ReferenceVideoRequest
    pictures: Mapping[str, Picture]
    warnings: tuple[str, ...]
    sent: tuple[Path, ...]
    sources: Mapping[str, str] = field(default_factory=dict)
    whole: Mapping[str, Picture] = field(default_factory=dict)

    def body(self, links: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The router's body, each picture as what stands for it in `links`, or else as a data URI."""
        links = links or {}
        uris = {image: links[image] if image in links else self.pictures[image].data_uri() for image in self.pictures}
        return _with_images(self.request, lambda image: uris.get(image, image)).body()


@dataclass(frozen=True)
class _DataUri:
    """A data URI, with what messages call it."""

    uri: str
    name: str


class Images:
    """Turns what a call names into what the router takes, with the user's consent.

    `router_is_local`: it can fetch from this machine's network. `bucket` is where pictures go before the router gets
    links to them; None = the router gets the pictures.
    """

    def __init__(self, consent: Consent, *, router_is_local: bool = False, bucket: Bucket | None = None):
        self.consent = consent
        self._router_is_local = router_is_local
        self.bucket = bucket
        self._threads = anyio.CapacityLimiter(AT_ONCE)

    async def load(
        self,
        request: ReferenceVideoRequest,
        roots: Sequence[Path] = (),
        *,
        ready: Mapping[str, Picture] | None = None,
        keep_whole: bool = False,
    ) -> LoadedRequest:
        """The request with every local picture and data URI found, checked and made ready.

        `roots` are the client's folders. `ready` are pictures that are, by what stands for them in the request. No file
        is opened before the whole request is known to be allowed.

        Raises:
            Refused: a picture cannot be sent. FolderNotAllowed: only because of its folder; the user may allow it.
        """
        ready = ready or {}
        if all(is_link(unwrapped(image)) for image, _ in _images(request)):  # nothing here takes any time
            self._found(request, (), ready)
            _fitted(request, {}, in_body=True)
            return LoadedRequest(_with_images(request, unwrapped), {}, (), ())
        found = await self._in_thread(partial(self._found, request, tuple(roots), ready))
        loaded = {**ready, **await self._ready(found)}
        pictures = {image: loaded[image] for image, _ in _images(request) if image in loaded}
        request = _with_images(request, lambda image: image if image in pictures else unwrapped(image))
        fitted = await self._in_thread(partial(_fitted, request, pictures, self.bucket is None))
        warnings = dict.fromkeys(warning for picture in fitted.values() for warning in picture.warnings)
        sent = dict.fromkeys(place.path for place in found.values() if isinstance(place, LocalFile))
        sources = {image: image for image in ready if image in pictures}
        sources |= {image: _source(place) for image, place in found.items()}
        whole = {image: picture for image, picture in pictures.items() if keep_whole and picture is not fitted[image]}
        return LoadedRequest(request, fitted, tuple(warnings), tuple(sent), sources, whole)

    def _found(
        self, request: ReferenceVideoRequest, roots: Sequence[Path], ready: Mapping[str, Picture]
    ) -> dict[str, LocalFile | _DataUri]:
        """What each image of the request means, by its text; links are checked and left out, as is what is ready."""
        policy = cache(partial(self.consent.reading.policy, roots))  # dozens of questions to the disk, for paths only
        found: dict[str, LocalFile | _DataUri] = {}
        for image, where in _images(request):
            if image in ready:
                continue
            source = unwrapped(image)
            match kind_of(source):
                case "url":
                    check_url(source, where, any_host=self._router_is_local)
                case "data URI":
                    found.setdefault(image, _DataUri(source, f"The data URI in {where}"))
                case "path" if not self.consent.local:
                    raise InvalidCall(
                        f"This server is reached over HTTP and reads no local files, such as {clean(source, 100)}: "
                        "use an https URL or a data URI, or run refvideo-mcp as a stdio server where the picture is."
                    )
                case "path":
                    found.setdefault(image, find(source, where, policy()))
        return found

    async def _ready(self, found: dict[str, LocalFile | _DataUri]) -> dict[str, Picture]:
        pictures: dict[str, Picture] = {}
        troubles: dict[str, Refused] = {}

        async def get_ready(image: str, place: LocalFile | _DataUri) -> None:
            if troubles:
                return
            try:
                pictures[image] = await self._in_thread(partial(_picture, place))
                if sum(len(picture.content) for picture in pictures.values()) > BYTES_IN_ALL:
                    raise InvalidCall(
                        "The pictures have more than 300 MB in all.", "Use smaller ones. Nothing was sent."
                    )
            except Refused as trouble:
                troubles[image] = trouble

        async with anyio.create_task_group() as tasks:
            for image, place in found.items():
                tasks.start_soon(get_ready, image, place)
        for image in found:
            if image in troubles:
                raise troubles[image]
        return {image: pictures[image] for image in found}

    async def cleaned(self, files: Sequence[tuple[str, bytes]]) -> list[Picture]:
        """The pictures in what came with these names, made ready like local files.

        Raises:
            Refused: one of them is no picture that can be sent.
        """
        names = [clean(name, 60) for name, _ in files]
        return [
            await self._in_thread(partial(prepare, content, name, name))
            for name, (_, content) in zip(names, files, strict=True)
        ]

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        # A file on a dead network share must not hold the caller beyond its deadline.
        return await anyio.to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)


def _with_images(request: ReferenceVideoRequest, written: Callable[[str], str]) -> ReferenceVideoRequest:
    subjects = [
        subject.model_copy(update={"images": [written(image) for image in subject.images]})
        for subject in request.subjects
    ]
    return request.model_copy(update={"subjects": subjects})


def _images(request: ReferenceVideoRequest) -> Iterator[tuple[str, str]]:
    """Each image with what messages call its place."""
    for place, subject in enumerate(request.subjects):
        for number, image in enumerate(subject.images):
            yield image, f"`subjects[{place}].images[{number}]`"


def _picture(place: LocalFile | _DataUri) -> Picture:
    if isinstance(place, _DataUri):
        return prepare(parse_data_uri(place.uri, place.name), place.name, place.name)
    return prepare(read(place), place.name, place.shown)


def _source(place: LocalFile | _DataUri) -> str:
    if isinstance(place, _DataUri):
        return DATA_URI
    return str(place.tried).encode(errors="replace").decode()  # a path is its bytes, which may be no text


def _fitted(request: ReferenceVideoRequest, pictures: dict[str, Picture], in_body: bool) -> dict[str, Picture]:
    """The pictures by the images' texts; `in_body`: small enough for one request."""
    rest = len(json.dumps(_with_images(request, lambda image: "" if image in pictures else image).body()))
    if rest >= BODY_BYTES:
        raise InvalidCall(f"The request has {rest / 1e6:.0f} MB without its pictures.", "20 MB are taken.")
    if not in_body:
        return pictures
    times = Counter(image for image, _ in _images(request))
    fitted = fit_body([(picture, times[image]) for image, picture in pictures.items()], BODY_BYTES - 1 - rest)
    return dict(zip(pictures, fitted, strict=True))
