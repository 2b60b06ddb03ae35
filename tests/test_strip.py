"""The preview: one small picture that shows an agent whether a video kept what the references show."""

import base64
import io
import os
import random
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from PIL import Image

from pictures import BLUE, GOLD, GREEN, RED, Rgb, colours, film
from refvideo_mcp.videos import Videos

av = pytest.importorskip("av", reason="the extra `video` is not installed")

pytestmark = pytest.mark.anyio


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
    await videos.previews.remember("job-1", [[encoded(Image.new("RGB", (1600, 900), GOLD))]])
    strip = await videos.previews.filmstrip("job-1", video)
    picture = seen(strip)
    assert strip is not None
    assert strip.parent == tmp_path / "cache"
    assert picture.size == (1020, 165)
    assert [shows(picture, (128 + 254 * tile, 70), colour) for tile, colour in enumerate((GOLD, RED, GREEN, BLUE))] == [
        True
    ] * 4
    assert await Videos(None, cache=tmp_path / "cache").previews.filmstrip("job-1", tmp_path / "gone.mp4") == strip


async def test_references_share_their_place_and_the_frames_stay_one_row(tmp_path: Path) -> None:
    videos = Videos(None, cache=tmp_path)
    video = film(tmp_path / "cat.mp4", colours(RED, GREEN, BLUE))
    views = [encoded(Image.new("RGB", size, GOLD)) for size in ((900, 900), (300, 1200), (1200, 300))]
    for count, size in ((0, (1024, 213)), (2, (1020, 198)), (3, (1015, 171)), (21, (1010, 166))):
        await videos.previews.remember(f"job-{count}", [(views * 7)[:count]])
        picture = seen(await videos.previews.filmstrip(f"job-{count}", video))
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
    await videos.previews.remember("job-1", [[encoded(Image.new("RGB", (300, 300), GOLD))]])
    video = film(tmp_path / "cat.mp4", colours(RED, GREEN, BLUE, size=size), 1)
    assert seen(await videos.previews.filmstrip("job-1", video)).size == strip_size


async def test_strip_of_pure_noise_is_still_small(tmp_path: Path) -> None:
    noise = Image.frombytes("RGB", (340, 320), random.Random(7).randbytes(340 * 320 * 3))
    assert (
        seen(
            await Videos(None, cache=tmp_path).previews.filmstrip("job-1", film(tmp_path / "cat.mp4", [noise], 1))
        ).width
        > 1000
    )


async def test_gif_has_a_strip_too(tmp_path: Path) -> None:
    first, *rest = colours(RED, GREEN, BLUE)
    first.save(tmp_path / "cat.gif", save_all=True, append_images=rest, duration=500)
    picture = seen(await Videos(None, cache=tmp_path).previews.filmstrip("job-1", tmp_path / "cat.gif"))
    assert [shows(picture, (at, 70), colour) for at, colour in ((170, RED), (512, GREEN), (850, BLUE))] == [True] * 3


async def test_thumbnail_is_upright_small_and_says_nothing_about_its_origin(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    halves = Image.new("RGB", (800, 400), RED)
    halves.paste(BLUE, (400, 0, 800, 400))
    await Videos(None, cache=tmp_path).previews.remember("job-1", [[encoded(halves, "JPEG", exif=exif)]])
    (thumbnail,) = names(tmp_path)
    with Image.open(tmp_path / thumbnail) as picture:
        assert (picture.size, picture.format) == ((128, 256), "JPEG")
        assert (shows(picture, (64, 20), RED), shows(picture, (64, 236), BLUE)) == (True, True)
        assert not picture.getexif()


async def test_transparent_reference_is_on_white(tmp_path: Path) -> None:
    await Videos(None, cache=tmp_path).previews.remember("job-1", [[encoded(Image.new("RGBA", (300, 300)))]])
    (thumbnail,) = names(tmp_path)
    with Image.open(tmp_path / thumbnail) as picture:
        assert shows(picture, (128, 128), (255, 255, 255))


async def test_previews_are_kept_for_a_month(tmp_path: Path) -> None:
    videos = Videos(None, cache=tmp_path)
    picture = [encoded(Image.new("RGB", (300, 300), GOLD))]
    await videos.previews.remember("old", [picture])
    for name in (*names(tmp_path), "the user's own"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    await videos.previews.remember("new", [picture])
    own, preview = sorted(names(tmp_path), reverse=True)
    assert own == "the user's own"
    assert preview.startswith("preview-")


async def test_broken_picture_is_left_out(tmp_path: Path) -> None:
    whole = encoded(Image.new("RGB", (300, 300), GOLD))
    await Videos(None, cache=tmp_path).previews.remember("job-1", [[b"", b"<html>", whole[:60], whole]])
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
    assert await Videos(None, cache=cache).previews.filmstrip("job-1", video) is None
    assert names(cache) == []


# One picture of 16384x8704 in 419 kB, made with PyAV and libx264; packed, since making it takes a gigabyte.
VAST = (
    "eNrtwftT0gcAAPC85anFpa5F+XbNAVNLj1w5DUnNnC1xzqnxsMalFJuKbiqoAXdbkEclUwMuETC8zcuvYsEZlyKevUyJfDRFQKZJ+AAbCjEQpu7f"
    "2A/7fCi6d5MI9tzpQ7u+i/MLTPOFwU7tad788JuFowN84+4msFdupHdk1G7vCMxmKWkmqX7wAZUX6n02dTiuvf23n5GnGNcCvMXtpvSEBN9gl98I"
    "hV3BW/84OFq4cckjuEN+LrwDYy2i5fJYXT9LzBdvh/1VKeU3dpmew1hiLCFbmAmd0gCxq2mvZNDyP+fpSx47km4zyg+m0KyTpEVShMukiTGqb1GO"
    "oCwQdiafzVh/XHclaevxV8sirL5BRHPgVlS2hKo2gFdfkmJZ3KigEMpOhjq1dglWiKC6bSaVZSCDqymRnu/l3+j01GqWi/KZbXXaAw4xIqRztKAZ"
    "xaxsGYd0JKrkY0kGIWicGYMCZz3SLFGPSGxZBVGVA7IDYryi1JlWR0HxS+GYCObt9QZg8aww2/PIHfgagsa9hHaoEwUnqjnnnkzkzn1eiwaXvaD8"
    "M2ZE6xiRg98yLnOhWqzjsOhmJrvxzEYscWBVajjKxU9Y9+MwKIu2W+1JNSj8PtBNoGccNXB/zioeiwUTabPxNw+qzfuJuZ8W7YQ8E6v4cL+su1Rg"
    "jtg8SMQUqood6XhSP+QzMJ7162wU9VV3VpdCZP7xAq6NrAooW66/Ww+nrWESe1jPihWBcqLyxWsBTTLtouW0KgTOZAFqigAuxOI/cfeAOKOul+54"
    "5R90Ghw3D3ojFV12oCTnjot8U/Um1egZXOwTCVO2l68MRK1MFR8quoWKOrFsVf70Nz4jd1tuUgt6vXb9779mO6+wY2W2vctigLHGvicLMzScS0jG"
    "yL0rAY59qgV3d4glJ2PnfPme8NXW4uSnpCo9QAr33NCitohvh1zl9Hn619T48f7jipylEn1YUKW5Ym3hl+iY5oCn+TVG3XXgItVkzy8pE3LUfULD"
    "YRWboAw2OxjFTZxa0THKg2iwLGCuD9sDQbj5/gQfKlQGEYVt3tPXtMJTGnzkckNB0CJbJ1E3vlWI1n7vGNKy7q/fX9s7ObzFC6JHk61WpwUkE4ac"
    "tK+2eJCnnTiQ1SpO7hgW2DvdeX5sfbirtMIynVp1dXs67OJ7QGduna4J37G9+wFKJet7Hrp1ZB8gbx8Aivmyl7RjVMa8H+wzf9GkvDrLncm0eY7N"
    "6kb7txsuALbpgThnGKKx4lq2FMfN5D0sCG3bTI+oqUa+GURLgxW628stBu0ShfoRaGTICxiv9v8XmAXxig=="
)
IN_A_CHILD_OF_ITS_OWN = """
import asyncio, resource, sys
from pathlib import Path
from refvideo_mcp.videos import Videos

strip = asyncio.run(Videos(None, cache=Path(sys.argv[1])).previews.filmstrip("job-1", Path(sys.argv[2])))
sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss} {strip}")
"""


def vast(file: Path) -> Path:
    file.write_bytes(zlib.decompress(zlib.decompress(base64.b64decode(VAST))))
    return file


def growing(file: Path) -> Path:
    """A stream that says it is small, and becomes vast on the way."""
    small = film(file.with_suffix(".small.mp4"), colours(RED, GREEN, BLUE))
    parts = []
    for part in (small, vast(file.with_suffix(".vast.mp4"))):
        stream = part.with_suffix(".ts")
        with av.open(str(part)) as source, av.open(str(stream), "w", format="mpegts") as target:
            into = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = into
                    target.mux(packet)
        parts.append(stream.read_bytes())
    file.write_bytes(b"".join(parts))
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a child's memory in kilobytes")
@pytest.mark.parametrize("video", [vast, growing])
async def test_video_of_vast_pictures_has_no_strip_and_takes_no_memory(
    video: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Unbounded, its decoder takes 4.5 GB."""
    arguments = [str(tmp_path / "cache"), str(video(tmp_path / "cat.mp4"))]
    child = await anyio.run_process([sys.executable, "-c", IN_A_CHILD_OF_ITS_OWN, *arguments], stderr=None)
    kilobytes, strip = child.stdout.decode().split()
    assert strip == "None"
    assert int(kilobytes) < 250_000
    assert names(tmp_path / "cache") == []


async def test_job_id_is_never_a_path(tmp_path: Path) -> None:
    videos = Videos(None, cache=tmp_path / "cache")
    job_id = "../../escaped\n"
    await videos.previews.remember(job_id, [[encoded(Image.new("RGB", (300, 300), GOLD))]])
    strip = await videos.previews.filmstrip(job_id, film(tmp_path / "cat.mp4", colours(RED), 1))
    assert strip is not None
    assert strip.parent == tmp_path / "cache"
    assert names(tmp_path) == ["cache", "cat.mp4"]


async def test_cache_that_cannot_be_written_costs_the_preview_only(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("the user's own")
    videos = Videos(None, cache=tmp_path / "cache")
    await videos.previews.remember("job-1", [[encoded(Image.new("RGB", (300, 300), GOLD))]])
    assert await videos.previews.filmstrip("job-1", film(tmp_path / "cat.mp4", colours(RED), 1)) is None


async def test_switched_off_nothing_is_kept(tmp_path: Path) -> None:
    video = film(tmp_path / "cat.mp4", colours(RED), 1)
    for videos in (Videos(None, cache=tmp_path / "cache", preview=False), Videos(None)):
        await videos.previews.remember("job-1", [[encoded(Image.new("RGB", (300, 300), GOLD))]])
        assert await videos.previews.filmstrip("job-1", video) is None
    assert names(tmp_path) == ["cat.mp4"]


async def test_without_the_extra_nothing_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = film(tmp_path / "cat.mp4", colours(RED), 1)
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    videos = Videos(None, cache=tmp_path / "cache")
    await videos.previews.remember("job-1", [[encoded(Image.new("RGB", (300, 300), GOLD))]])
    assert await videos.previews.filmstrip("job-1", video) is None
    assert names(tmp_path) == ["cat.mp4"]
