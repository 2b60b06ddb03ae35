"""Pictures and paths that mean harm, or are merely broken: refused in a sentence each, and nothing else is opened."""

import base64
import os
import socket
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread

import pytest

import pictures
from opened import nothing_opened_in, on_open
from pictures import data_uri, decoded, noise, saved, scene
from refvideo_mcp.errors import Refused
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images
from refvideo_mcp.schemas import ReferenceVideoRequest

pytestmark = pytest.mark.anyio
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
BROKEN = (
    "picture that is broken, cut off, or of a rare form. Ask the user to download or copy it again, "
    "or to export it as a plain JPEG or PNG. Nothing was sent."
)
OUTSIDE = "is outside the folders that pictures may be sent from."


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a project as working folder, and a picture that nobody may read in several places outside."""
    home = tmp_path / "home"
    for folder in ("project/.git", "tmp", "outside", "outside/.ssh"):
        (home / folder).mkdir(parents=True)
    for secret in (
        "outside/hero.png",
        "outside/hero-back.png",
        "outside/.ssh/hero.png",
        "project/.git/hero.png",
        "project/.hero.png",
    ):
        (home / secret).write_bytes(saved(scene(150, 150), "PNG"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(home / "tmp"))
    monkeypatch.chdir(home / "project")
    return home


@pytest.fixture(autouse=True)
def nothing_outside_is_opened(home: Path) -> Iterator[None]:
    """Holds for every test here."""
    places = [home / "outside", home / "outside" / ".ssh", home / "project" / ".git", home / "project" / ".hero.png"]
    with nothing_opened_in(*places):
        yield


def order(*images: str) -> ReferenceVideoRequest:
    return ReferenceVideoRequest.model_validate({"prompt": "@1 waves", "subjects": [{"images": list(images)}]})


async def sentence(*images: str, router_is_local: bool = False) -> str:
    """What the agent reads instead of a video."""
    room = Images(Consent(), router_is_local=router_is_local)
    with pytest.raises(Refused) as refused:
        await room.load(order(*images))
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 700
    return text


class TestPaths:
    """Ways out of the allowed folders."""

    async def test_the_watch_over_the_other_tests_sees_what_they_must_not_do(self, home: Path) -> None:
        file = home / "tmp" / "watched.png"
        file.write_bytes(b"")
        with pytest.raises(AssertionError), nothing_opened_in(home / "tmp"):
            file.read_bytes()

    @pytest.mark.parametrize(
        "path",
        [
            "../outside/hero.png",
            "../project/../outside/hero.png",
            "{home}/project/../outside/hero.png",
            "~/outside/hero.png",
            "file://{home}/outside/hero.png",
            "file://{home}/project/%2e%2e/outside/hero.png",
            "file://{home}/project/..%2Foutside%2Fhero.png",
            "../outside/missing.png",
        ],
    )
    async def test_traversal_ends_at_the_folder_rule_whether_the_file_exists_or_not(
        self, home: Path, path: str
    ) -> None:
        """A different answer for a missing file would tell what lies outside."""
        text = await sentence(path.format(home=home.as_posix()))
        assert OUTSIDE in text
        assert f"Ask the user to add {home / 'outside'} to REFVIDEO_IMAGE_DIRS" in text

    @pytest.mark.parametrize("path", [".hero.png", ".git/hero.png", "../outside/.ssh/hero.png", "{home}/.x/hero.png"])
    async def test_hidden_files_and_folders_are_never_sent_nor_asked_about(self, home: Path, path: str) -> None:
        source = path.format(home=home)
        text = await sentence(source)
        assert text.endswith(
            "hero.png is hidden or in a hidden folder; such files are never sent. "
            f"Ask the user to copy the picture to {home / 'project'}. Nothing was sent."
        )
        assert await Images(Consent()).consent.pictures_to_ask_about(order(source)) == []

    @posix_only
    @pytest.mark.parametrize("target", ["outside/hero.png", "outside/.ssh/hero.png", "project/.git/hero.png"])
    async def test_a_link_is_judged_by_where_it_leads(self, home: Path, target: str) -> None:
        (home / "project" / "hero.png").symlink_to(home / target)
        (home / "project" / "folder").symlink_to((home / target).parent)
        for path in ("hero.png", "folder/hero.png"):
            text = await sentence(path)
            assert text.startswith(f"{home}/project/{path} (which is {home}/{target}) is ")
            assert "sent." in text

    @posix_only
    async def test_a_link_within_the_allowed_folders_is_fine(self, home: Path) -> None:
        (home / "tmp" / "hero.png").write_bytes(saved(scene(), "PNG"))
        (home / "project" / "hero.png").symlink_to(home / "tmp" / "hero.png")
        loaded = await Images(Consent()).load(order("hero.png"))
        assert loaded.sent == (home / "tmp" / "hero.png",)

    @posix_only
    async def test_links_in_a_circle_lead_nowhere(self, home: Path) -> None:
        (home / "project" / "a.png").symlink_to("b.png")
        (home / "project" / "b.png").symlink_to("a.png")
        text = await sentence("a.png")
        assert text.startswith(f"{home}/project/a.png is a link that leads nowhere, or was replaced by one.")

    @posix_only
    @pytest.mark.parametrize(
        "path", ["/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/self/cwd/../x", "/dev/fd/0"]
    )
    async def test_devices_and_kernel_files_are_no_pictures(self, path: str) -> None:
        text = await sentence(path)
        assert "is a part of the system, not a picture file." in text or OUTSIDE in text

    @posix_only
    async def test_what_is_no_regular_file_is_refused_without_being_opened(self, home: Path) -> None:
        """Opening a FIFO for reading waits for a writer."""
        os.mkfifo(home / "project" / "fifo.png")
        (home / "project" / "folder.png").mkdir()
        with closing(socket.socket(socket.AF_UNIX)) as server, nothing_opened_in(home / "project" / "fifo.png"):
            server.bind("socket.png")
            for name, kind in (("fifo", "a named pipe"), ("folder", "a folder"), ("socket", "a socket")):
                assert await sentence(f"{name}.png") == (
                    f"{home}/project/{name}.png is {kind}, not a picture file. "
                    "Use the path of a picture. Nothing was sent."
                )

    @pytest.mark.skipif(not hasattr(os, "mknod") or not hasattr(os, "geteuid"), reason="this system has no devices")
    async def test_a_device_in_an_allowed_folder_is_refused(self, home: Path) -> None:
        device = home / "project" / "zero.png"
        try:
            os.mknod(device, 0o020600, os.makedev(1, 5))
        except PermissionError:  # only root makes devices; the rule for FIFOs is the same
            return
        with nothing_opened_in(device):
            assert "zero.png is a device, not a picture file." in await sentence("zero.png")

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("a\nb.png", "The path in `subjects[0].images[0]` holds a line break or another control character."),
            ("a\0b.png", "The path in `subjects[0].images[0]` holds a line break or another control character."),
            ("file:///a%00b.png", "The path in `subjects[0].images[0]` holds a line break or another control"),
            ("file:///a%0Ab.png", "The path in `subjects[0].images[0]` holds a line break or another control"),
            ("a\u2028b.png", "The path in `subjects[0].images[0]` holds a line break or another control character."),
            ("\x1b[31m.png", "The path in `subjects[0].images[0]` holds a line break or another control character."),
            ("A" * 5000, "The path in `subjects[0].images[0]` is 5000 characters long: no file has such a name."),
        ],
    )
    async def test_names_that_no_file_has_are_refused_unread(self, path: str, said: str) -> None:
        assert (await sentence(path)).startswith(said)

    @posix_only
    async def test_a_name_of_300_characters_is_too_long_for_a_file(self, home: Path) -> None:
        text = await sentence("x" * 300 + ".png")
        assert text.endswith(
            "has a name that is too long for any file. Ask the user for another path. Nothing was sent."
        )

    @posix_only
    @pytest.mark.parametrize(
        "path", [r"C:\Users\me\hero.png", r"\\nas\x\hero.png", "file:///C:/hero.png", "c:hero.png"]
    )
    async def test_a_windows_path_on_another_system_is_explained(self, path: str) -> None:
        assert "is a Windows path, but this server does not run on Windows. Give the path as " in await sentence(path)

    async def test_another_machines_file_is_explained(self) -> None:
        if sys.platform != "win32":
            assert "names a file on another machine, nas. A file of this machine is written" in await sentence(
                "file://nas/share/hero.png"
            )

    @pytest.mark.parametrize("path", ["ftp://a.b/c.png", "javascript:x"])
    async def test_other_schemes_are_refused(self, path: str) -> None:
        scheme = path.partition(":")[0]
        assert await sentence(path) == (
            f"Pictures cannot be read from {scheme}: addresses. "
            "Use a local path, an https URL or a data URI. Nothing was sent."
        )

    @posix_only
    async def test_a_file_without_permission_says_so(self, home: Path) -> None:
        """Root may read everything, so as root this is tried as another user."""
        (home / "project" / "locked").mkdir()
        for file in (home / "project" / "hero.png", home / "project" / "locked" / "hero.png"):
            file.write_bytes(saved(scene(), "PNG"))
        (home / "project" / "hero.png").chmod(0)
        (home / "project" / "locked").chmod(0)
        with as_nobody(home):
            for path in ("hero.png", "locked/hero.png"):
                text = await sentence(path)
                assert text.startswith(
                    f"{home}/project/{path} may not be read by this server: its permissions forbid it. Ask"
                )

    async def test_near_names_are_those_of_allowed_folders_only(self, home: Path) -> None:
        assert "hero-back" not in await sentence("../outside/hero-bac.png")
        (home / "project" / "line\nbreak.png" if sys.platform != "win32" else home / "project" / "line.png").touch()
        assert "In that folder: line" in await sentence("linebreak.png")

    async def test_nothing_is_read_before_every_picture_is_known_to_be_allowed(self, home: Path) -> None:
        (home / "project" / "fine.png").write_bytes(saved(scene(), "PNG"))
        with nothing_opened_in(home / "project" / "fine.png"):
            assert OUTSIDE in await sentence("fine.png", "../outside/hero.png")


@contextmanager
def as_nobody(home: Path) -> Iterator[None]:
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    above = [path for path in home.parents if path.stat().st_mode & 0o005 != 0o005 and path.stat().st_uid == 0]
    modes = {path: path.stat().st_mode for path in above}
    for path in above:
        path.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


class TestRaces:
    """Somebody changes the files between the check and the reading."""

    @posix_only
    @pytest.mark.parametrize("what", ["file", "folder", "fifo"])
    async def test_what_is_swapped_after_the_check_is_not_followed(self, home: Path, what: str) -> None:
        """The swap happens when the way to the file begins, which is after the check."""
        folder = home / "project" / "views"
        folder.mkdir()
        (folder / "hero.png").write_bytes(saved(scene(), "PNG"))

        def swap(name: str) -> None:
            if name != folder.anchor:
                return
            if what == "folder" and not folder.is_symlink():
                folder.rename(home / "project" / "before")
                folder.symlink_to(home / "outside")
            elif what != "folder" and (folder / "hero.png").stat(follow_symlinks=False).st_size > 200:
                (folder / "hero.png").unlink()
                if what == "file":
                    (folder / "hero.png").symlink_to(home / "outside" / "hero.png")
                else:
                    os.mkfifo(folder / "hero.png")

        with on_open(swap):
            text = await sentence("views/hero.png")
        assert text.startswith(f"{folder / 'hero.png'} ")
        assert "replaced" in text or "is a named pipe, not a picture file" in text

    @posix_only
    async def test_a_file_that_swaps_all_the_time_gives_the_allowed_picture_or_a_refusal(self, home: Path) -> None:
        folder, aside = home / "project" / "views", home / "project" / "aside"
        folder.mkdir()
        allowed = saved(scene(), "PNG")
        (folder / "hero.png").write_bytes(allowed)
        done = Event()

        def swap() -> None:
            while not done.is_set():
                folder.rename(aside)
                folder.symlink_to(home / "outside")
                folder.unlink()
                aside.rename(folder)

        attacker = Thread(target=swap)
        attacker.start()
        sent = refused = 0
        try:
            room = Images(Consent())
            for _ in range(300):
                try:
                    loaded = await room.load(order("views/hero.png"))
                except Refused:
                    refused += 1
                else:
                    assert loaded.body()["subjects"][0]["images"] == [data_uri(allowed)]
                    sent += 1
        finally:
            done.set()
            attacker.join()
        assert sent + refused == 300

    @posix_only
    async def test_without_opening_step_by_step_what_was_swapped_is_not_sent_either(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on Windows, which opens by whole paths only and compares afterwards."""
        monkeypatch.setattr(os, "supports_dir_fd", set[Callable[..., object]]())
        (home / "tmp" / "other.png").write_bytes(saved(scene(140, 140), "PNG"))
        folder = home / "project" / "views"
        folder.mkdir()
        (folder / "hero.png").write_bytes(saved(scene(), "PNG"))
        assert (await Images(Consent()).load(order("views/hero.png"))).sent == (folder / "hero.png",)

        def swap(name: str) -> None:
            if name == str(folder / "hero.png") and not folder.is_symlink():
                folder.rename(home / "project" / "before")
                (home / "tmp" / "hero.png").hardlink_to(home / "tmp" / "other.png")
                folder.symlink_to(home / "tmp")

        with on_open(swap):
            text = await sentence("views/hero.png")
        assert text.startswith(f"{folder / 'hero.png'} was replaced while it was opened.")

    @posix_only
    @pytest.mark.parametrize("by_steps", [True, False])
    async def test_another_file_in_the_place_of_the_checked_one_is_refused(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, by_steps: bool
    ) -> None:
        if not by_steps:
            monkeypatch.setattr(os, "supports_dir_fd", set[Callable[..., object]]())
        for name in ("hero.png", "other.png"):
            (home / "project" / name).write_bytes(saved(scene(), "PNG"))

        def swap(name: str) -> None:
            if name.endswith("hero.png") and (home / "project" / "other.png").exists():
                (home / "project" / "other.png").replace(home / "project" / "hero.png")

        with on_open(swap):
            text = await sentence("hero.png")
        assert text == (
            f"{home}/project/hero.png was replaced while it was opened. Try again once it stays. Nothing was sent."
        )

    async def test_a_file_that_grows_while_it_is_read_is_refused(self, home: Path) -> None:
        file = home / "project" / "hero.png"
        file.write_bytes(saved(scene(), "PNG"))
        # The size is asked for after the opening, so the test has to grow it at the reading.
        real_read = os.read

        def growing(descriptor: int, length: int) -> bytes:
            with file.open("ab") as more:
                more.write(bytes(1000))
            return real_read(descriptor, length)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("refvideo_mcp.files.open.os.read", growing)
            assert "hero.png grew while it was read. Try again once it is whole." in await sentence("hero.png")


class TestContents:
    """Files that are not what they say, or too much of it."""

    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            ("PNG", saved(noise(300, 300), "PNG")[:-9000]),
            ("WEBP", saved(noise(300, 300), "WEBP")[:-9000]),
            ("GIF", saved(noise(300, 300), "GIF")[:900]),
            ("PNG", saved(scene(), "PNG")[:33]),
            ("PNG", saved(scene(), "PNG").replace(b"IDAT", b"IDAX")),
            ("GIF", b"GIF89a" + saved(scene(), "PNG")),
            ("PNG", pictures.png_of(0, 10)),
            ("TIFF", saved(scene(), "TIFF")[:900]),
            ("TIFF", b"II*\0\x08\0\0\0"),
            ("BMP", saved(scene(), "BMP")[:900]),
            ("AVIF", struct.pack(">I", 24) + b"ftypavif" + bytes(4) + b"mif1avif" + bytes(200)),
            pytest.param(
                "HEIC",
                pictures.heic(),
                marks=pytest.mark.skipif(find_spec("pillow_heif") is None, reason="the extra `heic` is not installed"),
            ),
        ],
    )
    async def test_a_broken_picture_is_refused_as_the_kind_it_is_and_not_echoed(
        self, home: Path, kind: str, content: bytes
    ) -> None:
        (home / "project" / "cut.png").write_bytes(content)
        said = f"is a {kind} {BROKEN}"
        assert await sentence("cut.png") == f"{home / 'project' / 'cut.png'} {said}"
        assert await sentence(data_uri(content)) == f"The data URI in `subjects[0].images[0]` {said}"

    async def test_an_empty_file_is_called_empty(self, home: Path) -> None:
        (home / "project" / "empty.png").touch()
        (home / "project" / "zeros.png").write_bytes(bytes(4096))
        assert "empty.png is empty. Ask the user for another file." in await sentence("empty.png")
        assert "zeros.png is empty: it holds only zeros. Ask the user to download" in await sentence("zeros.png")

    @pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 10_000), (2**31 - 1, 2)])
    async def test_a_bomb_is_refused_before_it_unpacks(self, home: Path, size: tuple[int, int]) -> None:
        (home / "project" / "bomb.png").write_bytes(pictures.png_of(*size))
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as outside of tests: Pillow only warns of the smaller bombs
            text = await sentence("bomb.png")
        assert text == (
            f"{home / 'project' / 'bomb.png'} has more than 89 million pixels. Use a smaller picture. Nothing was sent."
        )

    async def test_a_bomb_in_the_text_of_a_picture_is_left_out_unopened(self, home: Path) -> None:
        (home / "project" / "bomb.png").write_bytes(pictures.png_with_text_bomb())
        loaded = await Images(Consent()).load(order("bomb.png"))
        assert loaded.body()["subjects"][0]["images"] == [data_uri(saved(scene(), "PNG"))]

    async def test_a_huge_sparse_file_is_refused_by_its_size(self, home: Path) -> None:
        with (home / "project" / "huge.png").open("wb") as file:
            file.truncate(2**40)
        text = await sentence("huge.png")
        (home / "project" / "huge.png").unlink()  # before somebody reads all files of the test
        assert text == (
            f"{home / 'project' / 'huge.png'} is 1,099,512 MB large; pictures may have 50 MB. "
            "Use a smaller picture. Nothing was sent."
        )

    async def test_a_picture_that_is_an_archive_too_is_sent_without_the_archive(self, home: Path) -> None:
        """Some cameras write behind the end of a picture, so this is mended, not refused."""
        for kind in ("PNG", "JPEG", "WEBP", "GIF"):
            (home / "project" / "both.png").write_bytes(pictures.zip_behind(saved(scene(), kind)))
            loaded = await Images(Consent()).load(order("both.png"))
            sent = base64.b64decode(loaded.body()["subjects"][0]["images"][0].partition(",")[2])
            assert b"secret.txt" not in sent
            assert decoded(sent).size == (320, 240)

    @pytest.mark.parametrize(
        ("uri", "said"),
        [
            ("data:image/png;base64", "is malformed. Write data:image/png;base64,… or use a local path."),
            ("data:" + "x" * 300 + ";base64,AAAA", "is malformed."),
            ("data:image/png;base64,@@@@", "is not base64, or is cut off."),
            ("data:image/png;base64,AAAAA", "is not base64, or is cut off."),
            ("data:image/png;base64,\u00e9\u00e9\u00e9\u00e9", "is not base64, or is cut off."),
            ("data:image/png;base64,", "is empty."),
            ("data:,hello", "is a text file."),
            ("data:image/png;base64," + "A" * 66_700_000, "is larger than 50 MB. Use a smaller picture."),
        ],
    )
    async def test_a_broken_data_uri_is_refused(self, uri: str, said: str) -> None:
        assert (await sentence(uri)).startswith(f"The data URI in `subjects[0].images[0]` {said}")


class TestLinks:
    """Addresses that the router cannot fetch, or should not."""

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LOCALHOST.",
            "app.localhost",
            "nas",
            "nas.local",
            "metadata.google.internal",
            "router.lan",
            "nas.home.arpa",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "\uff11\uff12\uff17.0.0.1",
            "127。0。0。1",
            "0",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.2.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[2002:7f00:1::]",
            "[64:ff9b::7f00:1]",
            "[fe80::1]",
            "[fd00::1]",
            "[fec0::1]",
            "[ff02::1]",
        ],
    )
    async def test_a_host_of_this_machine_or_network_is_refused(self, host: str) -> None:
        text = await sentence(f"http://{host}:8080/hero.png")
        assert text.startswith("The address in `subjects[0].images[0]` leads to ")
        assert text.endswith(
            ", which is no public host: nobody else can fetch it. "
            "Use a public https URL or a local path. Nothing was sent."
        )
        loaded = await Images(Consent(), router_is_local=True).load(order(f"http://{host}/hero.png"))
        assert loaded.body()["subjects"][0]["images"] == [f"http://{host}/hero.png"]

    @pytest.mark.parametrize(
        "url",
        [
            "https://",
            "https:///hero.png",
            "https:hero.png",
            "https://a b/c.png",
            "https://a.b/c d.png",
            "https://a.b\\@127.0.0.1/c.png",
            "https://a.b/\tc.png",
            "https://a.b:99999/c.png",
            "https://a.b:x/c.png",
            "https://[::1/c.png",
            "https://[fe80::1%25eth0]/c.png",
            "https://[v1.x]/c.png",
            "https://1.2.3.4.5/c.png",
            "https://1.2.3.256/c.png",
            "https://256.1.1.1/c.png",
            "https://0x7g.1.1.08/c.png",
            "https://%6c%6fcalhost/c.png",
            "https://a..b/c.png",
            "https://.../c.png",
        ],
    )
    async def test_a_malformed_address_is_refused(self, url: str) -> None:
        for is_local in (False, True):
            assert await sentence(url, router_is_local=is_local) == (
                "The address in `subjects[0].images[0]` is malformed. "
                "Use a public https URL or a local path. Nothing was sent."
            )

    @pytest.mark.parametrize("url", ["https://me:s3cret@a.b/c.png", "https://s3cret@a.b/c.png", "http://@a.b/c.png"])
    async def test_a_password_in_an_address_is_refused_and_not_repeated(self, url: str) -> None:
        text = await sentence(url)
        assert text.startswith("The address in `subjects[0].images[0]` carries a user name or password.")
        assert "s3cret" not in text

    @pytest.mark.parametrize(
        "url",
        [
            "https://93.184.216.34/c.png",
            "http://[2606:4700::1111]:8080/c.png",
            "HTTPS://Pictures.Example/c.png?a=1&b=%20#x",
            "https://bücher.example/c.png",
            "https://my_bucket.s3.amazonaws.com/c.png",
            "https://a.b./c.png",
        ],
    )
    async def test_a_public_address_is_passed_on_as_it_is(self, url: str) -> None:
        loaded = await Images(Consent()).load(order(url))
        assert loaded.body()["subjects"][0]["images"] == [url]
