"""Finished videos: what they are called, where they go, and that no file is ever harmed."""

import os
import sys
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path

import anyio
import httpx2
import pytest

from refvideo_mcp.errors import InvalidCall, Refused, Unavailable
from refvideo_mcp.files import Consent, FolderNotAllowed
from refvideo_mcp.videos import Videos, file_name

pytestmark = pytest.mark.anyio

MP4 = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x0cmdatabcd"
GIF = b"GIF89a\x01\0\x01\0\0\0\0;"
URL = "https://cdn.example/clip.mp4?signature=presigned"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
NOON = datetime(2026, 11, 23, 12).timestamp()
ADVICE = "Ask the user for another place, or leave save_to out. Nothing was sent."


def videos(folder: Path | None, content: bytes = MP4) -> Videos:
    return Videos(folder, transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=content)))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_video_is_saved_under_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "refvideo"
    saved = await videos(folder).save(URL, "2026-11-23 cat 5s 7f3a")
    assert saved == folder / "2026-11-23 cat 5s 7f3a.mp4"
    assert saved.read_bytes() == MP4
    assert names(folder) == [saved.name]


async def test_job_with_a_destination_is_saved_there_even_when_saving_is_off(tmp_path: Path) -> None:
    assert await videos(None).save(URL, "cat", tmp_path / "clips") == tmp_path / "clips" / "cat.mp4"
    assert await videos(None).save(URL, "cat", tmp_path / "intro.mp4") == tmp_path / "intro.mp4"
    with pytest.raises(Unavailable, match="Saving is switched off"):
        await videos(None).save(URL, "cat")


async def test_ending_is_that_of_the_content(tmp_path: Path) -> None:
    assert (await videos(tmp_path, GIF).save(URL, "cat")).name == "cat.gif"
    assert (await videos(tmp_path, GIF).save(URL, "", tmp_path / "intro.mp4")).name == "intro.gif"


async def test_folder_that_is_called_like_a_video_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "takes.mp4").mkdir()
    assert await videos(None).save(URL, "cat", tmp_path / "takes.mp4") == tmp_path / "takes.mp4" / "cat.mp4"


async def test_file_that_exists_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "cat.mp4").write_text("the user's own")
    assert (await videos(tmp_path).save(URL, "cat")).name == "cat (2).mp4"
    assert (await videos(tmp_path).save(URL, "cat", tmp_path / "cat.mp4")).name == "cat (3).mp4"
    assert (tmp_path / "cat.mp4").read_text() == "the user's own"


async def test_processes_that_save_one_video_at_once_make_whole_copies(tmp_path: Path) -> None:
    """A lease in the ledger keeps them apart; should it fail, nothing may break."""
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(videos(tmp_path).save, URL, "cat")
    copies = ["cat (2).mp4", "cat (3).mp4", "cat (4).mp4", "cat (5).mp4", "cat.mp4"]
    assert names(tmp_path) == copies
    assert {(tmp_path / name).read_bytes() for name in copies} == {MP4}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
async def test_saved_video_has_the_permissions_of_any_other_new_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    saved = await videos(tmp_path).save(URL, "cat")
    assert saved.stat().st_mode == other.stat().st_mode


async def test_leftovers_of_killed_processes_are_swept_and_younger_ones_left_alone(tmp_path: Path) -> None:
    for name in (".refvideo-old.part", ".refvideo-young.part"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".refvideo-old.part", (0, 0))
    await videos(tmp_path).save(URL, "cat")
    assert names(tmp_path) == [".refvideo-young.part", "cat.mp4"]


@pytest.mark.parametrize(
    ("prompt", "seconds", "name"),
    [
        ("@1 cat on skateboard", 5, "2026-11-23 cat-on-skateboard 5s 7afa"),
        ("A cat's day — in 5 words or more", None, "2026-11-23 a-cats-day-in-5 7afa"),
        ("猫が@1スケートボードに乗る", 5, "2026-11-23 猫が-スケートボードに乗る 5s 7afa"),
        ("नमस्ते दुनिया", 5, "2026-11-23 नमस्ते-दुनिया 5s 7afa"),
        ("../../etc/passwd\n\x00", 5, "2026-11-23 etc-passwd 5s 7afa"),
        ("\u202egpj.cat\u2066 \ud800", 5, "2026-11-23 gpj-cat 5s 7afa"),
        ("CON", 5, "2026-11-23 con 5s 7afa"),
        ("…", None, "2026-11-23 video 7afa"),
        (None, None, "2026-11-23 video 7afa"),
    ],
)
def test_name_says_when_what_and_how_long(prompt: str | None, seconds: int | None, name: str) -> None:
    assert file_name("task-1", NOON, prompt, seconds) == name


@pytest.mark.parametrize("prompt", ["x" * 3000, "𓀀" * 3000, "İ" * 3000, "a\u0301" * 3000, "\u0301" * 3000])
def test_name_fits_every_file_system(prompt: str) -> None:
    name = file_name("task-1", NOON, prompt, 10)
    assert len(name.encode()) <= 200
    assert not {unicodedata.category(character) for character in name} & {"Cc", "Cf", "Cs"}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working directory that are not the ones of whoever runs the tests."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home)
    return tmp_path.resolve()


async def destination_of(
    save_to: str, roots: Sequence[Path], granted: Sequence[Path] = (), *, output: Path | None = None
) -> Path:
    consent = Consent(output=output)
    for folder in granted:
        await consent.allow_saving(folder)
    return await consent.destination(save_to, roots)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


class Halves(httpx2.AsyncByteStream):
    """Half a video, then something happens, then the rest."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self._happens = happens

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield MP4[:14]
        self._happens()
        yield MP4[14:]


@posix_only
@pytest.mark.parametrize("when", ["before", "meanwhile", "halfway"])
@pytest.mark.parametrize("save_to", ["clips", "clips/new", "clips/cat.mp4"])
async def test_destination_that_was_swapped_for_a_link_gets_no_video(save_to: str, when: str, elsewhere: Path) -> None:
    """The user allowed the folder that stood there when the job was made."""
    project, secret = made(elsewhere / "project"), made(elsewhere / "home" / ".ssh")
    made(project / "clips")

    def swap() -> None:
        (project / "clips").rename(project / "old")
        (project / "clips").symlink_to(secret)

    def answer(request: httpx2.Request) -> httpx2.Response:
        if when == "meanwhile":
            swap()
        return httpx2.Response(200, stream=Halves(swap if when == "halfway" else lambda: None))

    there = Videos(None, transport=httpx2.MockTransport(answer))
    destination = await destination_of(save_to, [project])
    if when == "before":
        swap()
    with pytest.raises(Unavailable) as caught:
        await there.save(URL, "cat", destination)
    folder = destination.parent if save_to.endswith(".mp4") else destination
    assert str(caught.value) == (
        f"The video was not saved: {folder} leads to another folder than when the user asked for it."
    )
    assert names(secret) == []
    if when == "before":
        assert names(project / "old") == []


@posix_only
async def test_destination_that_is_swapped_for_a_link_to_a_folder_itself_gets_no_video(elsewhere: Path) -> None:
    project, secret = made(elsewhere / "project"), made(elsewhere / "home" / ".ssh")
    destination = await destination_of("cat.mp4", [project])
    destination.symlink_to(secret)
    with pytest.raises(Unavailable, match="leads to another folder"):
        await videos(None).save(URL, "cat", destination)
    assert names(secret) == []


async def test_relative_destination_is_below_the_first_root(elsewhere: Path) -> None:
    roots = [made(elsewhere / "project"), made(elsewhere / "other")]
    assert await destination_of("clips", roots) == elsewhere / "project" / "clips"
    assert await destination_of("clips/intro.mp4", roots) == elsewhere / "project" / "clips" / "intro.mp4"
    assert not (elsewhere / "project" / "clips").exists()  # nothing is made before something is bought


async def test_relative_destination_without_roots_is_below_the_working_directory(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made(elsewhere / "work"))
    assert await destination_of("clips", [], output=elsewhere / "videos") == elsewhere / "work" / "clips"


async def test_server_that_started_at_home_takes_the_output_folder_instead(elsewhere: Path) -> None:
    """Some clients start their servers in the home folder, or in /: nobody meant it."""
    assert await destination_of("clips", [], output=elsewhere / "videos") == elsewhere / "videos" / "clips"
    with pytest.raises(Refused) as caught:
        await destination_of("clips", [])
    assert str(caught.value) == f"clips is relative, and there is no folder that it could be below. {ADVICE}"


async def test_other_folders_take_the_users_permission(elsewhere: Path) -> None:
    folder = elsewhere / "films" / "2026"
    with pytest.raises(FolderNotAllowed) as caught:
        await destination_of(str(folder / "cat.mp4"), [made(elsewhere / "project")], output=elsewhere / "videos")
    assert caught.value.folder == folder
    assert str(caught.value) == (
        f"Nobody has allowed yet that videos are saved in {folder}. "
        "Ask the user to set REFVIDEO_OUTPUT_DIR to it, or leave save_to out. Nothing was sent."
    )
    for granted in (folder, folder.parent):
        assert await destination_of(str(folder / "cat.mp4"), [], [granted]) == folder / "cat.mp4"


@pytest.mark.parametrize("place", ["~/cat.mp4", "/cat.mp4"])
async def test_no_advice_makes_the_home_folder_or_a_disk_the_output_folder(elsewhere: Path, place: str) -> None:
    """Pictures may be sent from the output folder unasked."""
    with pytest.raises(FolderNotAllowed) as caught:
        await destination_of(place, [], output=elsewhere / "videos")
    assert str(caught.value.advice) == ADVICE


async def test_permission_for_the_home_folder_is_none_for_all_below_it(elsewhere: Path) -> None:
    home = elsewhere / "home"
    assert await destination_of("~/cat.mp4", [], [home]) == home / "cat.mp4"
    assert await destination_of("~", [], [home]) == home
    with pytest.raises(FolderNotAllowed) as caught:
        await destination_of("~/Music/cat.mp4", [], [home])
    assert caught.value.folder == home / "Music"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows writes paths in another way")
@pytest.mark.parametrize(
    "save_to",
    [
        '"{root}/my clips"',
        r"{root}/my\ clips",
        r"my\ clips",
        "@{root}/my clips",
        "file://{root}/my%20clips",
        "$HOME/../project/my clips",
        "\u202a{root}/my clips",
    ],
)
async def test_a_destination_may_be_spelled_as_pictures_may(elsewhere: Path, save_to: str) -> None:
    root = made(elsewhere / "project")
    assert await destination_of(save_to.format(root=root), [root]) == root / "my clips"


async def test_links_and_dots_are_followed_before_the_check(elsewhere: Path) -> None:
    project, outside = made(elsewhere / "project"), made(elsewhere / "outside")
    spellings = ["../outside", f"{project}/../outside"]
    try:
        (project / "link").symlink_to(outside, target_is_directory=True)
        spellings.append("link")
    except OSError:
        pass  # Windows wants a privilege for it
    for spelling in spellings:
        with pytest.raises(FolderNotAllowed) as caught:
            await destination_of(spelling, [project])
        assert caught.value.folder == outside


async def test_hidden_folders_are_refused_unless_they_are_the_project_itself(elsewhere: Path) -> None:
    worktree = made(elsewhere / ".worktrees" / "one")
    assert await destination_of("clips", [worktree]) == worktree / "clips"
    for hidden, roots in ((elsewhere / "home" / ".ssh", []), (worktree / ".git" / "hooks", [worktree])):
        with pytest.raises(Refused) as caught:
            await destination_of(str(hidden), roots)
        assert not isinstance(caught.value, FolderNotAllowed)
        assert str(caught.value) == f"{hidden} is a hidden folder. {ADVICE}"


@pytest.mark.parametrize(
    ("save_to", "says"),
    [
        ("notes.txt", "ROOT/notes.txt is a file, not a folder."),
        ("notes.txt/clips", "ROOT/notes.txt is a file, not a folder."),
        ("notes.txt/cat.mp4", "ROOT/notes.txt is a file, not a folder."),
        ("cat.mov", "cat.mov is no name for the video, which is an .mp4 file."),
        ("https://tmp/cat.mp4", "A video is saved at a path of this machine, not at an address."),
        (
            r"C:\Users\me\cat.mp4",
            r"C:\Users\me\cat.mp4 is a Windows path, but this server does not run on Windows.",
        ),
        (
            "${workspaceFolder}/clips",
            "${workspaceFolder}/clips holds ${workspaceFolder}, which nobody has filled in.",
        ),
        (r"%USERPROFILE%\clips", r"%USERPROFILE%\clips holds %USERPROFILE%, which nobody has filled in."),
        ("$OUT/clips", "$OUT/clips holds $OUT, which nobody has filled in."),
        ("file://nas/clips", "file://nas/clips names a file on another machine, nas."),
        *(
            (word, f"A video is saved in a folder or at an .mp4 path, not at {word}.")
            for word in ("off", "null", "None", "false")
        ),
        ("s3://bucket/cat.mp4", "A video is saved at a path of this machine, not at an address."),
        ("clips\nin here", "The place for the video holds a line break or another invisible character."),
        ("clips\0", "The place for the video holds a line break or another invisible character."),
        ("\u202e4pm.exe", "The place for the video holds a line break or another invisible character."),
        ("nul.mp4", "nul.mp4 is the name of a device on Windows."),
        ("clips/\ud800", "The place for the video holds a line break or another invisible character."),
        ("x" * 201 + ".mp4", "The place for the video holds a name that is too long."),
        ("猫" * 100, "The place for the video holds a name that is too long."),
    ],
)
async def test_destination_that_cannot_be_is_refused_in_a_sentence(save_to: str, says: str, elsewhere: Path) -> None:
    root = made(elsewhere / "project")
    (root / "notes.txt").touch()
    with pytest.raises(Refused) as caught:
        await destination_of(save_to, [root])
    assert type(caught.value) is InvalidCall
    assert str(caught.value).replace(f"{root}{os.sep}", "ROOT/") == f"{says} {ADVICE}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows guesses the homes of other users")
async def test_home_of_nobody_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        await destination_of("~nobody-of-this-name/clips", [])
    assert str(caught.value) == f"There is no home folder for ~nobody-of-this-name/clips. {ADVICE}"


async def test_folder_that_cannot_be_written_is_refused_before_anything_is_paid(elsewhere: Path) -> None:
    folder = made(elsewhere / "sealed")
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # for root and on Windows it can be written all the same
        folder = Path("/proc/self")
    if not folder.exists():
        pytest.skip("no folder here refuses to be written")
    with pytest.raises(Refused) as caught:
        await destination_of(str(folder), [], output=folder)
    assert str(caught.value).startswith(f"Nothing can be written in {folder.resolve()}: ")
