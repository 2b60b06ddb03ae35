"""One rule says which folders may be read and which written: what is true of pictures is true of videos."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from refvideo_mcp.errors import InvalidCall
from refvideo_mcp.files import Consent, FolderNotAllowed
from refvideo_mcp.images import Images
from refvideo_mcp.schemas import ReferenceVideoRequest

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a project, which is the working folder; the temporary folder is elsewhere."""
    home = tmp_path.resolve() / "home"
    for folder in ("project/kept", "elsewhere", "tmp"):
        (home / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setattr("tempfile.tempdir", str(home / "tmp"))
    monkeypatch.chdir(home / "project")
    return home


def mark_as_hidden(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """As Windows' Explorer and macOS' Finder do."""
    really = Path.lstat

    def lstat(path: Path) -> os.stat_result | SimpleNamespace:
        status = really(path)
        if path not in folders:
            return status
        return SimpleNamespace(st_mode=status.st_mode, st_file_attributes=stat.FILE_ATTRIBUTE_HIDDEN)

    monkeypatch.setattr(Path, "lstat", lstat)


async def read_from(folder: Path, *roots: Path) -> None:
    request = {"prompt": "@1 waves", "subjects": [{"images": str(folder / "hero.png")}]}
    await Images(Consent()).load(ReferenceVideoRequest.model_validate(request), roots)


async def write_to(folder: Path, *roots: Path) -> None:
    await Consent().destination(str(folder / "clip.mp4"), roots)


async def test_a_folder_that_the_system_hides_is_neither_read_nor_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_as_hidden(monkeypatch, home / "project" / "kept")
    with pytest.raises(InvalidCall, match="is hidden or in a hidden folder; such files are never sent"):
        await read_from(home / "project" / "kept")
    with pytest.raises(InvalidCall, match="is a hidden folder"):
        await write_to(home / "project" / "kept" / "new")


async def test_what_is_mounted_in_a_hidden_folder_at_the_top_is_asked_about(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS hides /Volumes, where every stick and disk is."""
    mark_as_hidden(monkeypatch, Path(*home.parts[:2]))
    for use in (read_from, write_to):
        with pytest.raises(FolderNotAllowed) as caught:
            await use(home / "elsewhere")
        assert caught.value.folder == home / "elsewhere"


async def test_a_client_whose_root_is_the_home_folder_opens_it_for_nothing(home: Path) -> None:
    for use in (read_from, write_to):
        with pytest.raises(FolderNotAllowed) as caught:
            await use(home, home)
        assert caught.value.folder == home


async def test_whether_a_place_exists_is_told_only_where_it_is_allowed(home: Path) -> None:
    (home / "elsewhere" / "notes.txt").touch()
    for use in (read_from, write_to):
        for folder in (home / "elsewhere" / "notes.txt", home / "elsewhere" / "missing"):
            with pytest.raises(FolderNotAllowed):
                await use(folder)
