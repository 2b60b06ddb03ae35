"""What is no picture, or none that is sent, is named as what it is, with the way out; whatever its file is called."""

import base64
import errno
import itertools
import os
import random
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import pictures
from pictures import data_uri, saved, scene
from refvideo_mcp.errors import Refused
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images
from refvideo_mcp.schemas import ReferenceVideoRequest

pytestmark = pytest.mark.anyio
EXPORT = "Ask the user to export it as a JPEG or PNG."
RAW = "a camera raw file. Ask the user to export a JPEG from it."
SHORTCUT = "Use the picture that it leads to."
UNPACK = "Ask the user to take the picture out of it."
FRAME = "Ask the user for one frame of it, saved as a picture."


async def said(folder: Path, image: str) -> str:
    request = ReferenceVideoRequest.model_validate({"prompt": "@1 waves", "subjects": [{"images": image}]})
    with pytest.raises(Refused) as refused:
        await Images(Consent(folders=[folder])).load(request)
    return str(refused.value)


def boxed(brand: bytes, *others: bytes) -> bytes:
    inside = b"ftyp" + brand + bytes(4) + b"".join(others)
    return struct.pack(">I", 4 + len(inside)) + inside + bytes(200)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (pictures.raw(dng=True), RAW),
        (pictures.raw(dng=False), RAW),
        (
            pictures.raw(dng=False).replace(
                struct.pack("<HHIHH", 262, 3, 1, 32803, 0), struct.pack("<HHIHH", 262, 3, 1, 1, 0)
            ),
            RAW,
        ),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), RAW),
        (b"II*\0\x99\0\0\0IIIITwaR" + bytes(99), RAW),
        (b"MM\0*\0\0\0\x99MMMMRawT" + bytes(99), RAW),
        (boxed(b"crx "), RAW),
        (b"FUJIFILMCCD-RAW 0201FF383501" + bytes(99), RAW),
        (b"IIRO\x08\0\0\0" + bytes(99), RAW),
        (b"IIU\0\x18\0\0\0" + bytes(99), RAW),
        (b"FOVb" + bytes(99), RAW),
        (
            b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
            f"an SVG drawing. {EXPORT}",
        ),
        (b'<?xml version="1.0"?>\n<!-- drawn --><svg width="9"/>', f"an SVG drawing. {EXPORT}"),
        (b"8BPS\0\x01" + bytes(99), f"a Photoshop document. {EXPORT}"),
        (b"gimp xcf v011\0" + bytes(99), f"a GIMP document. {EXPORT}"),
        (saved(scene(64, 64), "ICO"), f"a Windows icon. {EXPORT}"),
        (saved(scene(), "JPEG2000"), f"a JPEG 2000 picture. {EXPORT}"),
        (b"\xff\x0a\xfa\x7f" + bytes(99), f"a JPEG XL picture. {EXPORT}"),
        (saved(scene(), "PPM"), f"a Netpbm picture. {EXPORT}"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run", f"a PostScript file. {EXPORT}"),
        (
            b"%PDF-1.7\n" + saved(scene(), "JPEG"),
            "a PDF document. Ask the user to export the page or picture as a JPEG or PNG.",
        ),
        (
            b"<!doctype html><title>404</title>",
            "a web page. Ask the user to save the picture itself, not the page around it.",
        ),
        (
            b"\xef\xbb\xbf\n<HTML><body><svg></svg>",
            "a web page. Ask the user to save the picture itself, not the page around it.",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n",
            "a Git LFS pointer. Ask the user to run `git lfs pull` in that project.",
        ),
        (
            b"/annex/objects/SHA256E-s123--00.png\n",
            "a git-annex pointer. Ask the user to run `git annex get` on it.",
        ),
        (b"[InternetShortcut]\r\nURL=https://a.b/c.png\r\n", f"a shortcut. {SHORTCUT}"),
        (
            b"[{000214A0-0000-0000-C000-000000000046}]\r\nProp3=19,11\r\n[InternetShortcut]\r\n",
            f"a shortcut. {SHORTCUT}",
        ),
        (b"[Desktop Entry]\nType=Link\n", f"a shortcut. {SHORTCUT}"),
        (b"L\0\0\0\x01\x14\x02\0" + bytes(99), f"a Windows shortcut. {SHORTCUT}"),
        (b"book\0\0\0\0mark\0\0\0\0" + bytes(99), f"a macOS alias. {SHORTCUT}"),
        (pictures.video_head(), f"a video. {FRAME}"),
        (boxed(b"qt  "), f"a video. {FRAME}"),
        (b"\0\0\0\x08wide\0\0\0\x08mdat" + bytes(99), f"a video. {FRAME}"),
        (b"\x1a\x45\xdf\xa3" + bytes(99), f"a video. {FRAME}"),
        (b"RIFF\x99\0\0\0AVI LIST" + bytes(99), f"a video. {FRAME}"),
        (boxed(b"M4A "), "a sound file. Ask the user for a picture."),
        (pictures.zip_behind(b""), f"a ZIP archive or a document. {UNPACK}"),
        (b"\x1f\x8b\x08" + bytes(99), f"an archive. {UNPACK}"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r", "a text file. Ask the user for the picture itself."),
        ("größe\n".encode() * 2000, "a text file. Ask the user for the picture itself."),
        (("絵" * 3000).encode(), "a text file. Ask the user for the picture itself."),
        (
            "<html><title>Größe</title>".encode("latin-1"),
            "a web page. Ask the user to save the picture itself, not the page around it.",
        ),
        ("größe".encode("utf-16"), "a text file. Ask the user for the picture itself."),
        (b"BMW is a car", "a text file. Ask the user for the picture itself."),
        (b'{"error": "expired"}', "a text file. Ask the user for the picture itself."),
        (
            base64.b64encode(saved(scene(), "PNG")),
            "the base64 text of a picture. Give it as a data URI, data:image/png;base64,…",
        ),
        (
            bytes(range(1, 200)),
            "no picture of a kind that can be read here. Use a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC file.",
        ),
    ],
)
async def test_a_file_is_named_as_what_it_is_whatever_it_is_called(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("hero.jpg", "hero.png"):
        file = tmp_path / name
        file.write_bytes(content)
        assert await said(tmp_path, str(file)) == f"{file} is {what} Nothing was sent."
    uri = data_uri(content)
    assert await said(tmp_path, uri) == f"The data URI in `subjects[0].images[0]` is {what} Nothing was sent."


async def test_a_tiff_with_the_name_of_a_raw_file_is_one(tmp_path: Path) -> None:
    """Old ones say no word of it."""
    (tmp_path / "hero.NEF").write_bytes(saved(scene(), "TIFF"))
    assert await said(tmp_path, str(tmp_path / "hero.NEF")) == f"{tmp_path / 'hero.NEF'} is {RAW} Nothing was sent."


@pytest.mark.parametrize("values", [b"IIII", b"CR\x02\0", b"MMMM"])
async def test_pixels_that_look_like_a_mark_make_no_raw_file(tmp_path: Path, values: bytes) -> None:
    pixels = values * (160 * 130 // 4)
    picture = pictures.tiff_of(pictures.tiff_page(160, 130, [8], 1, len(pixels)), pixels=pixels)
    (tmp_path / "grey.tif").write_bytes(picture)
    request = {"prompt": "@1 waves", "subjects": [{"images": str(tmp_path / "grey.tif")}]}
    loaded = await Images(Consent(folders=[tmp_path])).load(ReferenceVideoRequest.model_validate(request))
    sent = base64.b64decode(loaded.body()["subjects"][0]["images"][0].partition(",")[2])
    assert pictures.decoded(sent).tobytes() == pixels


async def test_an_avif_that_this_pillow_cannot_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    (tmp_path / "hero.png").write_bytes(boxed(b"avif"))
    assert await said(tmp_path, str(tmp_path / "hero.png")) == (
        f"{tmp_path / 'hero.png'} is an AVIF picture, which this server cannot read. {EXPORT} Nothing was sent."
    )


@pytest.mark.parametrize(
    ("folder", "number"), [("Pictures", errno.EDEADLK), ("Pictures", errno.ETIMEDOUT), ("OneDrive", errno.EIO)]
)
async def test_a_file_that_is_only_in_the_cloud_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, number: int
) -> None:
    """What systems answer where the file may not be fetched for this process, or cannot be."""
    file = tmp_path / folder / "hero.png"
    file.parent.mkdir()
    file.write_bytes(saved(scene(), "PNG"))

    def not_here(descriptor: int, length: int) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("refvideo_mcp.files.open.os.read", not_here)
        text = await said(tmp_path, str(file))
    assert text == (
        f"{file} is only in the cloud, not on this machine. "
        "Ask the user to download it there first (iCloud: Download Now; OneDrive: Always keep on this device). "
        "Nothing was sent."
    )


@pytest.mark.parametrize("path", ["hero.png", ".hero.png.icloud"])
async def test_a_placeholder_of_icloud_is_a_file_in_the_cloud(tmp_path: Path, path: str) -> None:
    (tmp_path / ".hero.png.icloud").write_bytes(b"bplist00" + bytes(99))
    assert await said(tmp_path, str(tmp_path / path)) == (
        f"{tmp_path / 'hero.png'} is only in the cloud, not on this machine. "
        "Ask the user to download it there first (iCloud: Download Now; OneDrive: Always keep on this device). "
        "Nothing was sent."
    )


class TestHostileParts:
    """Files that only keep a decoder busy: Pillow's own readers take minutes and gigabytes for some of them."""

    @pytest.mark.parametrize(
        "picture",
        [
            pictures.jpeg_with_segments(300_000, b"\xff\xe3\0\x02"),
            pictures.with_chunks(saved(scene(), "PNG"), pictures.chunk(b"teXt", b"") * 200_000),
            saved(scene(), "WEBP")[:4]
            + struct.pack("<I", 8 * 200_000 + 4)
            + b"WEBP"
            + b"junk\0\0\0\0" * 200_000
            + saved(scene(), "WEBP")[12:],
            saved(scene(mode="P"), "GIF").replace(b"\x2c", b"\x21\xfe" + b"\1x" * 1_100_000 + b"\0\x2c", 1),
        ],
        ids=["jpeg", "png", "webp", "gif"],
    )
    async def test_a_picture_of_too_many_parts_is_refused(self, tmp_path: Path, picture: bytes) -> None:
        (tmp_path / "many.png").write_bytes(picture)
        assert "picture that consists of too many parts. Ask the user to export it again." in await said(
            tmp_path, str(tmp_path / "many.png")
        )

    async def test_a_jpeg_of_too_many_scans_is_refused(self, tmp_path: Path) -> None:
        """Each is a round over all pixels."""
        whole = saved(scene(), "JPEG", progressive=True)
        last = whole[whole.rindex(b"\xff\xda") : -2]
        (tmp_path / "many.jpg").write_bytes(whole[:-2] + last * 200 + whole[-2:])
        assert "many.jpg is a JPEG picture that consists of too many parts." in await said(
            tmp_path, str(tmp_path / "many.jpg")
        )

    @pytest.mark.parametrize("where", ["in the first directory", "in Exif's"])
    async def test_a_tiff_whose_values_are_larger_than_itself_is_refused(self, tmp_path: Path, where: str) -> None:
        """Older Pillows read all of them: 65,000 entries that name the same 45 MB would fill any memory."""
        entries = b"".join(struct.pack("<HHII", 40_000 + number, 7, 20_000, 8) for number in range(4000))
        page = pictures.tiff_page(160, 130, [8], 1, 20_800)
        exif = [(34665, 4, [8 + 20_800 + 2 + 12 * 10 + 4])] if where == "in Exif's" else []
        plain = pictures.tiff_of([*page, *exif], pixels=bytes(20_800))
        if exif:
            picture = plain + struct.pack("<H", 4000) + entries + bytes(4)
        else:
            rows = plain[8 + 20_800 + 2 : -4]
            picture = plain[: 8 + 20_800] + struct.pack("<H", 4009) + rows + entries + bytes(4)
        (tmp_path / "large.tif").write_bytes(picture)
        assert "large.tif is a TIFF picture that consists of too many parts." in await said(
            tmp_path, str(tmp_path / "large.tif")
        )

    @pytest.mark.parametrize(
        "picture",
        [
            pictures.jpeg_with_segments(700, b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)),
            saved(scene(mode="P"), "GIF").replace(
                b"\x2c", b"\x21\xfe" + (b"\xff" + bytes(255)) * 80_000 + b"\0\x2c", 1
            ),
            saved(scene(), "JPEG")[:2] + b"\xff" * 20_000_000 + saved(scene(), "JPEG")[2:],
            saved(scene(), "JPEG")[:-2] + b"\xff" * 20_000_000,
            saved(scene(), "JPEG")[:-2] + b"\xff\xd0" * 10_000_000 + b"\xff\xd9",
        ],
        ids=["exif", "comment", "fill", "fill behind", "restarts"],
    )
    async def test_a_ping_is_answered_beside_a_picture_that_is_mostly_something_else(
        self, tmp_path: Path, picture: bytes
    ) -> None:
        """Pillow copied all that it had at each further piece, and nothing else runs while bytes are copied."""
        plain = saved(scene(), "JPEG")
        (tmp_path / "usual.jpg").write_bytes(plain + bytes(len(picture) - len(plain)))
        (tmp_path / "odd.jpg").write_bytes(picture)
        usual, odd = [await loading(str(tmp_path / name), tmp_path) for name in ("usual.jpg", "odd.jpg")]
        assert odd.seconds < 5 + 20 * usual.seconds  # it was a hundred times as long, and much more
        assert odd.longest_silence < 1 + 20 * usual.longest_silence

    async def test_a_ping_is_answered_beside_a_large_data_uri(self) -> None:
        """Its text was searched and decoded at one go each."""
        content = saved(scene(), "PNG") + random.Random(1).randbytes(33_000_000)
        text = base64.b64encode(content).decode()
        lines = "\n".join(text[place : place + 76] for place in range(0, len(text), 76))
        found = await loading(f"data:image/png;base64,{lines}")
        assert found.longest_silence < found.seconds / 2


@dataclass(frozen=True)
class Loading:
    seconds: float
    longest_silence: float


async def loading(image: str, *folders: Path) -> Loading:
    """How long a picture takes, and for how long nothing else had its turn meanwhile."""
    request = ReferenceVideoRequest.model_validate({"prompt": "@1 waves", "subjects": [{"images": image}]})
    turns = [time.perf_counter()]
    done = anyio.Event()

    async def ping() -> None:
        while not done.is_set():
            await anyio.lowlevel.checkpoint()
            turns.append(time.perf_counter())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ping)
        before = time.perf_counter()
        await Images(Consent(folders=folders)).load(request)
        done.set()
    return Loading(turns[-1] - before, max(b - a for a, b in itertools.pairwise(turns)))
