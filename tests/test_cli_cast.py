"""The cast from the command line: whom a person adds, looks at, renames and removes."""

import base64
import io
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from a_place import SHORT, Place
from command_line import call, running
from pictures import noise, private_exif, saved, scene
from refvideo_mcp.sandbox import Sandbox

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")

URL = "https://pictures.example/lena.png"
SUBCOMMANDS = ("add", "list", "show", "rename", "remove")


@pytest.fixture
def router(tmp_path: Path) -> Iterator[str]:
    with Sandbox(seconds=0.2, folder=tmp_path / "clips") as sandbox:
        yield sandbox.url


@pytest.fixture
def place(tmp_path: Path, router: str) -> Place:
    place = Place(tmp_path, router)
    (tmp_path / "side.jpg").write_bytes(saved(scene(200, 300), "JPEG", exif=private_exif()))
    return place


def ok(place: Place, *arguments: str) -> str:
    done = place.run("cast", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(place: Place, *arguments: str, **settings: str) -> str:
    done = place.run("cast", *arguments, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.removeprefix("refvideo-mcp: ").removesuffix("\n")


def told(place: Place, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ok(place, "show", name, "--json"))
    return found


def names(place: Place) -> list[str]:
    return sorted(member["id"] for member in json.loads(ok(place, "list", "--json"))["cast"])


def folder(place: Place) -> Path:
    return place.folder / "data" / "refvideo-mcp" / "cast"


def files(place: Place) -> list[Path]:
    return [path for path in folder(place).rglob("*") if path.is_file() and path.name != "lock"]


def sent(place: Place, *subjects: str) -> Any:
    """The subjects that the router would get."""
    found = place.run("generate", "--prompt", "it runs", *SHORT, *subjects, "--dry-run", "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)["request"]["subjects"]


def test_who_is_added_once_is_called_by_name(place: Place) -> None:
    assert ok(place, "add", "@fox", "hero.png", "side.jpg", "--about", "a red fox") == "Kept as @fox: 2 pictures.\n"
    given = sent(place, "--subject", "fox=hero.png,side.jpg")
    place.picture.unlink()
    assert sent(place, "--subject", "@fox") == sent(place, "--subject", '{"id": "fox"}') == given
    assert "fox.png" in place.run("generate", "--prompt", "it runs", "--subject", "@./fox.png", "--dry-run").stderr
    made = place.run("generate", "--prompt", "@fox waves", "--subject", "@fox", *SHORT)
    assert made.returncode == 0, made.stderr
    assert "fox (cast), sent to 127.0.0.1" in made.stderr


def test_everybody_is_listed_the_last_used_first(place: Place) -> None:
    assert ok(place, "list") == "Nobody is in the cast yet: refvideo-mcp cast add NAME PICTURE.\n"
    assert json.loads(ok(place, "list", "--json")) == {"cast": []}
    ok(place, "add", "fox", "hero.png", "side.jpg", "--about", "a red fox\nwith a lantern")
    ok(place, "add", "F\u00fcchsin \u72d0", URL)
    head, second, first = ok(place, "list").splitlines()
    assert head == "name         pictures  last used         about"
    assert second.startswith("@F\u00fcchsin \u72d0         1  20")
    assert second == second.rstrip()
    assert first.startswith("@fox                2  20")
    assert first.endswith("  a red fox with a lantern")
    assert place.run("generate", "--prompt", "@fox waves", "--subject", "@fox", *SHORT).returncode == 0
    assert [line.split()[0] for line in ok(place, "list").splitlines()] == ["name", "@fox", "@F\u00fcchsin"]


def test_what_is_kept_of_one_is_shown_with_the_paths_alone_on_stdout(place: Place) -> None:
    ok(place, "add", "fox", "side.jpg", URL, "--about", "a red fox", "--voice", "v-1")
    shown = place.run("cast", "show", "@fox")
    path, url = shown.stdout.splitlines()
    assert url == URL
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (200, 300))
    assert b"owner-lives" not in Path(path).read_bytes()
    for fact in ("@fox", "a red fox", "v-1"):
        assert fact in shown.stderr
    assert told(place, "fox") == {
        "id": "fox",
        "about": "a red fox",
        "voice_id": "v-1",
        "pictures": [path, URL],
        "saved_at": told(place, "fox")["saved_at"],
        "last_used_at": told(place, "fox")["last_used_at"],
    }


@posix_only
@pytest.mark.parametrize(
    ("terminal", "form"),
    [
        ({"TERM_PROGRAM": "iTerm.app"}, r"\x1b\]1337;File=inline=1;size=\d+:([^\a]+)\a"),
        ({"TERM_PROGRAM": "WezTerm"}, r"\x1b\]1337;File=inline=1;size=\d+:([^\a]+)\a"),
        ({"TERM": "xterm-kitty"}, r"\x1b_G(?:a=T,f=100,)?m=[01];([^\x1b]*)\x1b\\"),
        ({"TERM": "xterm"}, None),
    ],
)
def test_a_terminal_that_can_shows_the_pictures(place: Place, terminal: dict[str, str], form: str | None) -> None:
    ok(place, "add", "fox", "side.jpg")
    ours, its = os.openpty()
    settings = place.settings | {"TERM_PROGRAM": "", "TERM": "xterm"} | terminal
    with running("cast", "show", "fox", stdin=its, stdout=its, settings=settings, folder=place.folder) as command:
        os.close(its)
        seen = ""
        with suppress(OSError):  # how Linux says that the command has ended
            while more := os.read(ours, 65536):
                seen += more.decode()
        assert command.wait() == 0
    os.close(ours)
    (path,) = told(place, "fox")["pictures"]
    assert seen.endswith(f"{path}\r\n")
    if form is None:
        assert "\x1b" not in seen
        return
    with Image.open(io.BytesIO(base64.b64decode("".join(re.findall(form, seen))))) as shown:
        assert (shown.format, max(shown.size)) == ("PNG", 240)


def test_only_the_owner_can_read_what_is_kept(place: Place) -> None:
    ok(place, "add", "fox", "hero.png")
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder(place).rglob("*") if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(place)} == {0o600}


def test_another_picture_needs_another_name_or_the_word_for_it(place: Place) -> None:
    ok(place, "add", "fox", "hero.png", "--about", "a red fox")
    assert refused(place, "add", "fox", "side.jpg") == (
        "The cast has another @fox already, with other pictures. Take another name, or --replace it."
    )
    ok(place, "add", "fox", "side.jpg", "--replace")
    assert [path.suffix for path in files(place) if path.suffix != ".json"] == [".jpeg"]
    assert told(place, "fox")["about"] == "a red fox"
    ok(place, "add", "fox", "side.jpg", "--about", "an old fox")
    assert told(place, "fox")["about"] == "an old fox"


def test_a_renamed_member_is_itself(place: Place) -> None:
    ok(place, "add", "fox", "hero.png", "--about", "a red fox")
    before = told(place, "fox")
    assert ok(place, "rename", "@fox", "@vixen") == "@fox is @vixen from now on.\n"
    after = told(place, "vixen")
    assert names(place) == ["vixen"]
    assert (after["about"], [Path(path).name for path in after["pictures"]]) == (
        "a red fox",
        [Path(path).name for path in before["pictures"]],
    )
    ok(place, "add", "lena", URL)
    assert refused(place, "rename", "vixen", "lena") == "The cast has @lena already. Take another name."
    for name in ("", "x" * 101, "1"):
        assert refused(place, "rename", "vixen", name)
    assert names(place) == ["lena", "vixen"]


def test_a_removed_member_leaves_nothing_and_nothing_is_asked(place: Place) -> None:
    ok(place, "add", "fox", "hero.png", "side.jpg")
    ok(place, "add", "lena", URL)
    assert ok(place, "remove", "fox") == "Removed @fox and its 2 pictures.\n"
    assert ok(place, "remove", "@lena") == "Removed @lena and its one picture.\n"
    assert files(place) == []


@pytest.mark.parametrize("arguments", [("show", "foxy"), ("remove", "foxy"), ("rename", "foxy", "vixen")])
def test_a_name_that_nobody_has_is_answered_with_those_that_there_are(place: Place, arguments: tuple[str, ...]) -> None:
    assert refused(place, *arguments) == "The cast has no @foxy: nobody is in it. Correct the name."
    for name in ("lena", "fox"):
        ok(place, "add", name, URL)
    assert refused(place, *arguments) == "The cast has no @foxy: it has @fox, @lena. Correct the name."


@pytest.mark.parametrize(
    "name", ["CON", "nul.png", "fox.", "../../fox", "a/b\\c:d", "F\u00fcchsin \U0001f98a", "\u202exof", "x" * 100]
)
def test_any_name_can_be_kept(place: Place, name: str) -> None:
    ok(place, "add", name, "hero.png")
    assert names(place) == [name]
    shown = place.run("cast", "list")
    assert "\u202e" not in shown.stdout + shown.stderr
    assert len(sent(place, "--subject", json.dumps({"id": name}))[0]["images"]) == 1
    ok(place, "rename", name, "fox")
    ok(place, "rename", "fox", name)
    ok(place, "remove", name)
    assert files(place) == []


def test_names_are_told_apart_by_case_and_not_by_how_their_letters_are_spelled(place: Place) -> None:
    ok(place, "add", "fox", "hero.png")
    ok(place, "add", "Fox", URL)
    ok(place, "rename", "Fox", "FOX")
    assert names(place) == ["FOX", "fox"]
    ok(place, "add", "f\u00fcchsin", URL)
    assert told(place, "fu\u0308chsin")["pictures"] == [URL]


def test_a_picture_that_no_call_may_send_is_not_kept(place: Place) -> None:
    (place.folder / "notes.txt").write_text("no picture")
    assert "notes.txt" in refused(place, "add", "fox", "notes.txt")
    assert refused(place, "add", "fox", "gone.png")
    assert refused(place, "add", "fox", "https://imgur.com/gallery/fox")
    assert "must not be empty" in refused(place, "add", "", "hero.png")
    assert refused(place, "add", "x" * 101, "hero.png").startswith(
        "A name to be remembered has at most 100 characters."
    )
    assert files(place) == []


@posix_only
def test_a_folder_that_is_not_allowed_is_asked_about_as_for_a_video(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from typist import typing

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "hero.png").write_bytes(place.picture.read_bytes())
    order = ["cast", "add", "fox", str(elsewhere / "hero.png")]
    told = refused(place, *order[1:], TMPDIR=str(place.folder))  # nobody to ask
    assert f"Add {elsewhere} to REFVIDEO_IMAGE_DIRS" in told
    with typing(place, *order) as typist:
        typist.waits_for(f"Later videos with @fox send them. Send pictures from {elsewhere} to 127.0.0.1")
        typist.types("no\n")
        assert typist.waits_for_the_end() == (2, "")
    assert files(place) == []
    with typing(place, *order) as typist:
        typist.waits_for("[y/N]")
        typist.types("y\n")
        assert typist.waits_for_the_end() == (0, "Kept as @fox: one picture.\n")


class TestTrouble:
    @pytest.mark.parametrize("damage", ["no JSON", "another form", "a picture gone"])
    def test_somebody_damaged_is_named_with_what_to_do(self, place: Place, damage: str) -> None:
        ok(place, "add", "fox", "hero.png")
        ok(place, "add", "lena", URL)
        picture = next(path for path in files(place) if path.suffix == ".png")
        note = picture.parent / "subject.json"
        match damage:
            case "no JSON":
                note.write_text(note.read_text()[:-20])
            case "another form":
                note.write_text('{"name": "fox", "pictures": 7}')
            case "a picture gone":
                picture.unlink()
        listed = place.run("cast", "list")
        assert listed.returncode == 0
        assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", "@lena"]
        assert f"@fox ({note.parent}). Add it again with --replace, or remove it." in listed.stderr
        assert json.loads(ok(place, "list", "--json"))["damaged"] == [{"id": "fox", "folder": str(note.parent)}]
        assert refused(place, "show", "fox") == (
            f"What the cast kept of @fox is damaged ({note.parent}). Add it again with --replace, or remove it."
        )
        ok(place, "add", "fox", "hero.png", "--replace")
        assert len(sent(place, "--subject", "@fox")) == 1

    def test_somebody_whose_name_is_lost_can_be_removed_by_it_or_by_hand(self, place: Place) -> None:
        ok(place, "add", "fox", URL)
        (note,) = files(place)
        note.write_text("{")
        assert f"somebody whose name is lost. Add them again with --replace, or delete {note.parent}" in (
            place.run("cast", "list").stderr
        )
        assert ok(place, "remove", "fox") == "Removed @fox and whatever was left of it.\n"
        assert files(place) == []

    def test_a_full_disk_is_told_and_leaves_what_was_there(self, place: Place, small_disk: Path) -> None:
        (place.folder / "large.png").write_bytes(saved(noise(800, 600), "PNG"))
        place.settings["REFVIDEO_DATA_DIR"] = str(small_disk)
        told = refused(place, "add", "fox", "large.png")
        assert told.startswith("The cast cannot be written (")
        assert told.endswith("No space left on device. Mend that, then try again.")
        ok(place, "add", "fox", "side.jpg")
        refused(place, "add", "fox", "large.png", "--replace")
        assert len(sent(place, "--subject", "@fox")) == 1

    def test_a_cast_that_is_no_folder_is_told(self, place: Place) -> None:
        folder(place).parent.mkdir(parents=True)
        folder(place).write_text("")
        assert "The cast cannot be read" in refused(place, "list")
        assert "The cast cannot be read" in refused(place, "add", "fox", URL)

    def test_where_nobody_can_be_kept_that_is_said(self, place: Place) -> None:
        assert refused(place, "add", "fox", "hero.png", REFVIDEO_DATA_DIR="off") == (
            "REFVIDEO_DATA_DIR=off: nobody is kept. Leave it out, or let it name a folder."
        )
        assert refused(place, "list", MYROUTER_API_KEY="sandbox") == (
            "MYROUTER_API_KEY=sandbox simulates the router inside one command, and keeps nobody when that ends. "
            "To keep somebody on a simulated router, run refvideo-mcp sandbox, which says what to set."
        )
        assert "MYROUTER_API_KEY is not set." in refused(place, "list", MYROUTER_API_KEY="")
        done = place.run("cast", "show", "fox", "--json")
        assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "The cast has no @fox: nobody is in it.")


def test_no_gateway_has_another_s_cast(place: Place) -> None:
    ok(place, "add", "fox", URL)
    assert place.run("cast", "list", MYROUTER_BASE_URL="http://127.0.0.1:9").stdout.startswith("Nobody")


def test_of_two_at_once_on_one_name_one_is_kept_whole(place: Place) -> None:
    pictures = ("hero.png", "side.jpg")
    orders = [("cast", "add", "fox", picture) for picture in pictures]
    with (
        running(*orders[0], settings=place.settings, folder=place.folder) as one,
        running(*orders[1], settings=place.settings, folder=place.folder) as other,
    ):
        ended = [command.communicate() for command in (one, other)]
        codes = [command.returncode for command in (one, other)]
    assert sorted(codes) == [0, 2], ended
    assert b"The cast has another @fox already" in ended[codes.index(2)][1]
    assert sent(place, "--subject", "@fox") == sent(place, "--subject", f"fox={pictures[codes.index(0)]}")
    assert len(files(place)) == 2


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_help_ends_in_an_example(command: str) -> None:
    found = call("cast", command, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip().splitlines()[-1].startswith(f"example: refvideo-mcp cast {command}")


def test_a_command_that_is_none_is_wrong_usage() -> None:
    for arguments in ((), ("create",), ("add", "fox"), ("rename", "fox")):
        found = call("cast", *arguments)
        assert (found.returncode, found.stdout) == (2, "")
        assert "Traceback" not in found.stderr
