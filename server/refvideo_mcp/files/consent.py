"""What the user allows: folders whose pictures may be sent, folders that videos may be saved in."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from refvideo_mcp.errors import InvalidCall, Refused
from refvideo_mcp.files.path_syntax import is_link, kind_of
from refvideo_mcp.files.policy import Policy, is_broad, real, working_folder
from refvideo_mcp.files.resolve import FolderNotAllowed, destination, find
from refvideo_mcp.schemas import ReferenceVideoRequest
from refvideo_mcp.schemas.coercion import unwrapped

__all__ = ["Consent", "Folders"]

Result = TypeVar("Result")


class Folders:
    """The folders for one purpose: those `named` in the settings, of the work, and that the user allowed.

    `file` remembers the latter; without one, or while it cannot be written, this process alone does. `usual`: the
    user's own folders too, from Pictures on, and the temporary one.
    """

    def __init__(self, named: Sequence[Path], file: Path | None = None, *, usual: bool = False):
        self._named = tuple(named)
        self._file = file
        self._here: list[Path] = []
        self._with_usual = usual

    def policy(self, roots: Sequence[Path] = ()) -> Policy:
        """The rule for a call from a client with these folders."""
        here = working_folder()
        work = [*(folder for folder in map(real, roots) if not is_broad(folder)), *([here] if here else [])]
        usual = [folder for folder in map(real, self._usual) if not is_broad(folder)] if self._with_usual else []
        temporary = real(Path(tempfile.gettempdir()))
        # Naming the home folder, or a yes to one picture in it, is no permission for everything below it.
        said = [real(folder) for folder in (*self._named, *self._allowed())]
        return Policy(
            whole=(
                *(folder for folder in said if not is_broad(folder)),
                *work,
                *usual,
                *([temporary] if self._with_usual and not is_broad(temporary) else []),
            ),
            flat=frozenset(folder for folder in said if is_broad(folder)),
            bases=tuple(dict.fromkeys(work)),
            usual=tuple(usual),
        )

    def allow(self, folder: Path) -> None:
        """The user said yes, now and later."""
        self._here.append(real(folder))
        if self._file is None:
            return
        content = json.dumps({"folders": [str(known) for known in self._allowed()]}, indent=2)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _replace(self._file, content)

    def _allowed(self) -> list[Path]:
        """All folders allowed so far, by this process or another one. A damaged file counts as empty."""
        stored: object = None
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                stored = json.loads(self._file.read_text("utf-8"))
        names = stored.get("folders") if isinstance(stored, dict) else None
        known = [Path(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
        return list(dict.fromkeys([folder for folder in known if folder.is_absolute()] + self._here))

    @cached_property
    def _usual(self) -> tuple[Path, ...]:
        import platformdirs

        return (
            platformdirs.user_pictures_path(),
            platformdirs.user_downloads_path(),
            platformdirs.user_desktop_path(),
            platformdirs.user_documents_path(),
        )


class Consent:
    """Asks nobody itself: it tells which folders have to be asked about, and remembers the answers.

    `folders` are those that the settings name for pictures, `output` is the one for videos, and in `frames` are frames
    of videos that were made here. Answers are remembered in
    files in `state`; None = by this process. `local` is False over HTTP, where paths would be the server's.
    """

    def __init__(
        self,
        *,
        folders: Sequence[Path] = (),
        output: Path | None = None,
        frames: Path | None = None,
        state: Path | None = None,
        local: bool = True,
    ):
        saved = [output] if output else []
        self.local = local
        self.reading = Folders(
            [*folders, *saved, *([frames] if frames else [])], state and state / "picture-folders.json", usual=True
        )
        self.writing = Folders(saved, state and state / "save-folders.json")
        self._output = output
        self._threads = anyio.CapacityLimiter(4)

    async def pictures_to_ask_about(self, request: ReferenceVideoRequest, roots: Sequence[Path] = ()) -> list[Path]:
        """Folders whose pictures the call needs and that the user has not allowed, each once. No file is opened."""
        images = [image for subject in request.subjects for image in subject.images]
        if not self.local or all(is_link(unwrapped(image)) for image in images):
            return []
        return await self._in_thread(lambda: self._to_ask_about(request, roots))

    async def allow_pictures(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            await self._in_thread(partial(self.reading.allow, folder))

    async def folder_to_ask_about(self, save_to: str, roots: Sequence[Path] = ()) -> Path | None:
        """The folder that `save_to` needs and that the user has not allowed."""
        try:
            await self.destination(save_to, roots)
        except FolderNotAllowed as error:
            return error.folder
        except Refused:
            pass  # the call will be refused for that
        return None

    async def allow_saving(self, folder: Path) -> None:
        await self._in_thread(partial(self.writing.allow, folder))

    async def destination(self, save_to: str, roots: Sequence[Path] = ()) -> Path:
        """The absolute path that `save_to` means: a folder, or the .mp4 file itself.

        A relative one is below the first of the client's `roots`, else below a permitted working directory, else below
        the output folder.

        Raises:
            FolderNotAllowed: the user would have to allow its folder.
            Refused: no video can be saved there.
        """
        if not self.local:
            raise InvalidCall(
                "This server is reached over HTTP and saves no video where a call says: leave save_to out, and the "
                "answer has a link to it. Nothing was sent."
            )
        return await self._in_thread(lambda: self._destination(save_to, roots))

    def _to_ask_about(self, request: ReferenceVideoRequest, roots: Sequence[Path]) -> list[Path]:
        policy = self.reading.policy(roots)
        folders: dict[Path, None] = {}
        for source in (unwrapped(image) for subject in request.subjects for image in subject.images):
            try:
                if kind_of(source) == "path":
                    find(source, "", policy)
            except FolderNotAllowed as error:
                folders[error.folder] = None
            except Refused:
                return []  # the request will be refused anyway
        return list(folders)

    def _destination(self, save_to: str, roots: Sequence[Path]) -> Path:
        policy = self.writing.policy(roots)
        bases = [*roots, *policy.bases, *([self._output] if self._output else [])]
        return destination(save_to, policy, bases[0] if bases else None)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        # A folder on a dead network share must not hold the caller beyond its deadline.
        return await anyio.to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)


def _replace(file: Path, content: str) -> None:
    """Write a file readable by its owner only, all of it or nothing."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, prefix=".grants-", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            part.close()
            Path(part.name).replace(file)  # NamedTemporaryFile made it 0600
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise
