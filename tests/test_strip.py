"""The preview: one small picture that shows an agent whether a video kept what the references show."""

import io
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from refvideo_mcp.videos import Videos

av = pytest.importorskip("av", reason="the extra `video` is not installed")

pytestmark = pytest.mark.anyio

RED, GREEN, BLUE, GOLD = (200, 30, 40), (40, 160, 60), (30, 60, 200), (230, 180, 40)
Rgb = tuple[int, int, int]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def film(file: Path, pictures: Sequence[Image.Image], seconds: int = 5) -> Path:
    """A video that shows each of the pictures for an equal time, at 24 frames a second."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
        total = seconds * 24
        for number in range(total):
            container.mux(stream.encode(av.VideoFrame.from_image(pictures[number * len(pictures) // total])))
        container.mux(stream.encode(None))
    return file


def colours(*three: Rgb, size: tuple[int, int] = (320, 180)) -> list[Image.Image]:
    return [Image.new("RGB", size, colour) for colour in three]


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def seen(strip: Path | None) -> Image.Image:
    assert strip is not None
    content = strip.read_bytes()
    assert len(content) <= 60_000
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert picture.format == "JPEG"
    assert picture.width <= 1024
    return picture


def shows(strip: Image.Image, at: tuple[int, int], colour: Rgb) -> bool:
    found = strip.getpixel(at)
    assert isinstance(found, tuple)
    return all(abs(one - other) < 12 for one, other in zip(found, colour, strict=True))


async def test_strip_shows_the_reference_and_the_start_middle_and_end(tmp_path: Path) -> None:
    videos = Videos(None, cache=tmp_path / "cache")
    video = film(tmp_path / "cat.mp4", colours(RED, GREEN, BLUE))
    await videos.remember_references("job-1", [encoded(Image.new("RGB", (1600, 900), GOLD))])
    strip = await videos.strip("job-1", video)
    picture = seen(strip)
    assert strip is not None
    assert strip.parent == tmp_path / "cache"
    assert picture.size == (1020, 165)
    assert [shows(picture, (128 + 254 * tile, 70), colour) for tile, colour in enumerate((GOLD, RED, GREEN, BLUE))] == [
        True
    ] * 4
    assert await Videos(None, cache=tmp_path / "cache").strip("job-1", tmp_path / "gone.mp4") == strip


async def test_references_share_their_place_and_the_frames_stay_one_row(tmp_path: Path) -> None:
    videos = Videos(None, cache=tmp_path)
    video = film(tmp_path / "cat.mp4", colours(RED, GREEN, BLUE))
    views = [encoded(Image.new("RGB", size, GOLD)) for size in ((900, 900), (300, 1200), (1200, 300))]
    for count, size in ((0, (1024, 213)), (2, (1020, 198)), (3, (1015, 171)), (21, (1010, 166))):
        await videos.remember_references(f"job-{count}", (views * 7)[:count])
        picture = seen(await videos.strip(f"job-{count}", video))
        assert picture.size == size
        assert shows(picture, (picture.width - 20, 60), BLUE)
        assert shows(picture, (20, 60), GOLD if count else RED)


@pytest.mark.parametrize(
    ("size", "strip_size"), [((180, 320), (880, 344)), ((320, 80), (1021, 101)), ((2, 2000), (343, 344))]
)
async def test_strip_of_any_shape_keeps_to_its_limits(
    size: tuple[int, int], strip_size: tuple[int, int], tmp_path: Path
) -> None:
    videos = Videos(None, cache=tmp_path)
    await videos.remember_references("job-1", [encoded(Image.new("RGB", (300, 300), GOLD))])
    video = film(tmp_path / "cat.mp4", colours(RED, GREEN, BLUE, size=size), 1)
    assert seen(await videos.strip("job-1", video)).size == strip_size


async def test_strip_of_pure_noise_is_still_small(tmp_path: Path) -> None:
    noise = Image.frombytes("RGB", (340, 320), random.Random(7).randbytes(340 * 320 * 3))
    assert seen(await Videos(None, cache=tmp_path).strip("job-1", film(tmp_path / "cat.mp4", [noise], 1))).width > 1000


async def test_gif_has_a_strip_too(tmp_path: Path) -> None:
    first, *rest = colours(RED, GREEN, BLUE)
    first.save(tmp_path / "cat.gif", save_all=True, append_images=rest, duration=500)
    picture = seen(await Videos(None, cache=tmp_path).strip("job-1", tmp_path / "cat.gif"))
    assert [shows(picture, (at, 70), colour) for at, colour in ((170, RED), (512, GREEN), (850, BLUE))] == [True] * 3


async def test_thumbnail_is_upright_small_and_says_nothing_about_its_origin(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    halves = Image.new("RGB", (800, 400), RED)
    halves.paste(BLUE, (400, 0, 800, 400))
    await Videos(None, cache=tmp_path).remember_references("job-1", [encoded(halves, "JPEG", exif=exif)])
    (thumbnail,) = names(tmp_path)
    with Image.open(tmp_path / thumbnail) as picture:
        assert (picture.size, picture.format) == ((128, 256), "JPEG")
        assert (shows(picture, (64, 20), RED), shows(picture, (64, 236), BLUE)) == (True, True)
        assert not picture.getexif()


async def test_transparent_reference_is_on_white(tmp_path: Path) -> None:
    await Videos(None, cache=tmp_path).remember_references("job-1", [encoded(Image.new("RGBA", (300, 300)))])
    (thumbnail,) = names(tmp_path)
    with Image.open(tmp_path / thumbnail) as picture:
        assert shows(picture, (128, 128), (255, 255, 255))


async def test_previews_are_kept_for_a_month(tmp_path: Path) -> None:
    videos = Videos(None, cache=tmp_path)
    picture = [encoded(Image.new("RGB", (300, 300), GOLD))]
    await videos.remember_references("old", picture)
    for name in (*names(tmp_path), "the user's own"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    await videos.remember_references("new", picture)
    own, preview = sorted(names(tmp_path), reverse=True)
    assert own == "the user's own"
    assert preview.startswith("preview-")


async def test_broken_picture_is_left_out(tmp_path: Path) -> None:
    whole = encoded(Image.new("RGB", (300, 300), GOLD))
    await Videos(None, cache=tmp_path).remember_references("job-1", [b"", b"<html>", whole[:60], whole])
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("broken", ["empty", "page", "cut", "no picture", "folder", "gone"])
async def test_broken_video_has_no_strip(broken: str, tmp_path: Path) -> None:
    video = tmp_path / "cat.mp4"
    content = film(tmp_path / "whole.mp4", colours(RED, GREEN, BLUE), 1).read_bytes()
    match broken:
        case "empty" | "page":
            video.write_bytes(b"" if broken == "empty" else b"<html>")
        case "cut":
            video.write_bytes(content[: len(content) // 2])
        case "no picture":
            video.write_bytes(content[:32])
        case "folder":
            video.mkdir()
    cache = tmp_path / "cache"
    assert await Videos(None, cache=cache).strip("job-1", video) is None
    assert names(cache) == []


async def test_job_id_is_never_a_path(tmp_path: Path) -> None:
    videos = Videos(None, cache=tmp_path / "cache")
    job_id = "../../escaped\n"
    await videos.remember_references(job_id, [encoded(Image.new("RGB", (300, 300), GOLD))])
    strip = await videos.strip(job_id, film(tmp_path / "cat.mp4", colours(RED), 1))
    assert strip is not None
    assert strip.parent == tmp_path / "cache"
    assert names(tmp_path) == ["cache", "cat.mp4"]


async def test_cache_that_cannot_be_written_costs_the_preview_only(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("the user's own")
    videos = Videos(None, cache=tmp_path / "cache")
    await videos.remember_references("job-1", [encoded(Image.new("RGB", (300, 300), GOLD))])
    assert await videos.strip("job-1", film(tmp_path / "cat.mp4", colours(RED), 1)) is None


async def test_switched_off_nothing_is_kept(tmp_path: Path) -> None:
    video = film(tmp_path / "cat.mp4", colours(RED), 1)
    for videos in (Videos(None, cache=tmp_path / "cache", preview=False), Videos(None)):
        await videos.remember_references("job-1", [encoded(Image.new("RGB", (300, 300), GOLD))])
        assert await videos.strip("job-1", video) is None
    assert names(tmp_path) == ["cat.mp4"]


async def test_without_the_extra_nothing_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = film(tmp_path / "cat.mp4", colours(RED), 1)
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    videos = Videos(None, cache=tmp_path / "cache")
    await videos.remember_references("job-1", [encoded(Image.new("RGB", (300, 300), GOLD))])
    assert await videos.strip("job-1", video) is None
    assert names(tmp_path) == ["cat.mp4"]
