"""The sandbox's clips: what is asked for is what the file holds."""

import base64
import io
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.to_thread import run_sync
from PIL import Image, ImageDraw

from refvideo_mcp.sandbox.app import build_app

av = pytest.importorskip("av", reason="the extra `video` is not installed")

HEADERS = {"Authorization": "Bearer any-key", "Content-Type": "application/json"}


def data_uri(picture: Image.Image, kind: str = "png", **options: Any) -> str:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


RED = data_uri(Image.new("RGB", (320, 180), (200, 30, 40)))
BLUE = data_uri(Image.new("RGB", (180, 320), (30, 60, 200)), "jpeg")


async def outcome(folder: Path, subjects: list[dict[str, Any]], **changes: Any) -> tuple[dict[str, Any], bytes]:
    """The answer for a job of one second at 540p, and the file behind its link."""
    app = build_app(seconds=0, folder=folder)
    body = {"prompt": "@1 waves", "subjects": subjects, "duration": 1, "resolution": "540p", "seed": 7, **changes}
    transport = httpx2.ASGITransport(app)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://sandbox", headers=HEADERS) as client,
        httpx2.AsyncClient(transport=transport) as anyone,
    ):
        submitted = await client.post("/v3/async/vidu-q2-reference2video", json=body)
        await run_sync(app.state.renders.join)
        answer = (await client.get("/v3/async/task-result", params={"task_id": submitted.json()["task_id"]})).json()
        return answer, b"".join([(await anyone.get(video["video_url"])).content for video in answer["videos"]])


async def rendered(folder: Path, subjects: list[dict[str, Any]], **changes: Any) -> bytes:
    answer, content = await outcome(folder, subjects, **changes)
    assert answer["task"]["status"] == "TASK_STATUS_SUCCEED", answer
    return content


def subject(*images: str, name: str = "1") -> dict[str, Any]:
    return {"id": name, "images": list(images)}


@dataclass
class Facts:
    """What a player learns from a file."""

    codec: str
    pixels: str
    fps: int
    frames: int
    size: tuple[int, int]
    seconds: float
    sound: list[str]


def facts(content: bytes) -> Facts:
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        count = sum(1 for _ in container.decode(stream))
        return Facts(
            codec=context.name,
            pixels=context.pix_fmt,
            fps=int(stream.average_rate),
            frames=count,
            size=(context.width, context.height),
            seconds=float(stream.duration * stream.time_base),
            sound=[audio.codec_context.name for audio in container.streams.audio],
        )


def frame(content: bytes, number: int) -> Image.Image:
    with av.open(io.BytesIO(content)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if index == number:
                image = picture.to_image()
                assert isinstance(image, Image.Image)
                return image
    raise IndexError(number)


def middle(picture: Image.Image) -> tuple[int, ...]:
    """The colour above the middle, where no caption is."""
    colour = picture.getpixel((picture.width // 2, picture.height // 3))
    assert isinstance(colour, tuple)
    return tuple(int(value) for value in colour)


@pytest.mark.anyio
async def test_a_clip_has_the_asked_length_and_24_frames_a_second(tmp_path: Path) -> None:
    answer, content = await outcome(tmp_path, [subject(RED)], duration=2)

    assert answer["videos"][0]["video_type"] == "mp4"
    assert facts(content) == Facts("h264", "yuv420p", 24, 48, (960, 540), 2.0, [])


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"resolution": "720p"}, (1280, 720)),
        ({"resolution": "1080p"}, (1920, 1080)),
        ({"aspect_ratio": "9:16"}, (540, 960)),
        ({"aspect_ratio": "1:1"}, (540, 540)),
        ({"aspect_ratio": "4:3"}, (720, 540)),
        ({"aspect_ratio": "17:13"}, (706, 540)),
        ({"aspect_ratio": "1:1000"}, (540, 2160)),
    ],
)
@pytest.mark.anyio
async def test_the_short_side_is_the_resolution_and_the_shape_is_as_asked(
    tmp_path: Path, changes: dict[str, Any], size: tuple[int, int]
) -> None:
    content = await rendered(tmp_path, [subject(RED)], **changes)

    assert facts(content).size == size


@pytest.mark.parametrize("changes", [{"audio": True}, {"bgm": True}, {"audio": True, "bgm": True}])
@pytest.mark.anyio
async def test_sound_is_there_when_asked_for_and_as_long_as_the_picture(
    tmp_path: Path, changes: dict[str, bool]
) -> None:
    content = await rendered(tmp_path, [subject(RED)], **changes)

    assert facts(content).sound == ["aac"]
    with av.open(io.BytesIO(content)) as container:
        sound = b"".join(bytes(piece.planes[0]) for piece in container.decode(audio=0))
        assert container.duration == pytest.approx(1_000_000, abs=50_000)
    assert len(set(sound)) > 100


@pytest.mark.anyio
async def test_the_film_can_start_before_the_file_is_complete(tmp_path: Path) -> None:
    content = await rendered(tmp_path, [subject(RED)])

    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.anyio
async def test_the_same_request_and_seed_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    subjects = [subject(RED, BLUE)]
    first = await rendered(tmp_path / "one", subjects, audio=True)
    second = await rendered(tmp_path / "two", subjects, audio=True)
    other = await rendered(tmp_path / "two", subjects, audio=True, seed=8)

    assert first == second
    assert first != other


@pytest.mark.anyio
async def test_the_film_shows_each_subject_in_turn(tmp_path: Path) -> None:
    content = await rendered(tmp_path, [subject(RED), subject(BLUE, name="2")], duration=2)

    red, _, _ = middle(frame(content, 0))
    _, _, blue = middle(frame(content, 47))
    assert red == pytest.approx(200, abs=12)
    assert blue == pytest.approx(200, abs=12)


@pytest.mark.anyio
async def test_a_picture_keeps_its_colours(tmp_path: Path) -> None:
    """A wrong colour matrix shifts a strong red by more than this."""
    content = await rendered(tmp_path, [subject(RED)])

    assert middle(frame(content, 12)) == pytest.approx((200, 30, 40), abs=6)


@pytest.mark.anyio
async def test_the_camera_moves_by_parts_of_a_pixel(tmp_path: Path) -> None:
    """FFmpeg's own camera, `zoompan`, moves by whole ones: what should nearly stand still jumps by one and trembles."""
    picture = Image.new("RGB", (1600, 900))
    picture.paste((255, 255, 255), (900, 0, 1600, 900))
    content = await rendered(tmp_path, [subject(data_uri(picture))])

    with av.open(io.BytesIO(content)) as container:
        rows = [shown.to_image().convert("L").crop((0, 180, 960, 181)) for shown in container.decode(video=0)]
    edges = [960 - sum(row.tobytes()) / 255 for row in rows]
    steps = [after - before for before, after in pairwise(edges)]
    assert max(abs(after - before) for before, after in pairwise(steps)) < 0.5


@pytest.mark.anyio
async def test_a_phone_s_picture_is_shown_upright(tmp_path: Path) -> None:
    """Its pixels lie on their side, and the orientation tag says so."""
    picture = Image.new("RGB", (320, 180), (200, 30, 40))
    ImageDraw.Draw(picture).rectangle((160, 0, 320, 180), fill=(30, 60, 200))
    tag = Image.Exif()
    tag[0x0112] = 6
    content = await rendered(tmp_path, [subject(data_uri(picture, "jpeg", exif=tag))], aspect_ratio="9:16")

    assert middle(frame(content, 12))[0] > 150


@pytest.mark.anyio
async def test_a_picture_behind_a_url_is_a_card_and_is_never_fetched(tmp_path: Path) -> None:
    content = await rendered(tmp_path, [subject("https://nowhere.invalid/cat.png", name="hero")])

    colours = frame(content, 12).crop((240, 60, 720, 340)).getcolors(1 << 20)
    assert colours
    assert len(colours) > 50


@pytest.mark.anyio
async def test_a_hundred_pictures_fit_into_one_second(tmp_path: Path) -> None:
    content = await rendered(tmp_path, [subject(RED, BLUE, name=str(number)) for number in range(50)])

    assert facts(content).frames == 24


@pytest.mark.parametrize(
    "prompt", ["@1 " + "waves" * 400, "@1 挥手 镜头缓慢推进", "@1\n\n\twaves 👋\u0000", "[rehearse:ttl-zero]"]
)
@pytest.mark.anyio
async def test_any_prompt_can_be_a_caption(tmp_path: Path, prompt: str) -> None:
    content = await rendered(tmp_path, [subject(RED)], prompt=prompt)

    assert facts(content).frames == 24


@pytest.mark.anyio
async def test_transparent_grey_and_very_thin_pictures_are_drawn(tmp_path: Path) -> None:
    cut_out = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(cut_out).ellipse((20, 20, 180, 180), fill=(250, 200, 40, 255))
    pictures = [data_uri(cut_out), data_uri(Image.new("L", (1, 5000), 90)), data_uri(Image.new("1", (5000, 1)))]
    content = await rendered(tmp_path, [subject(*pictures, name="two\nlines " * 9)], duration=2)

    assert facts(content).frames == 48


@pytest.mark.anyio
async def test_without_pyav_the_video_is_a_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    answer, content = await outcome(tmp_path, [subject(RED)])

    (video,) = answer["videos"]
    assert video["video_type"] == "gif"
    assert video["video_url"].partition("?")[0].endswith(".gif")
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size, getattr(picture, "n_frames", 1)) == ("GIF", (640, 360), 10)
        assert middle(picture.convert("RGB")) == pytest.approx((200, 30, 40), abs=20)


@pytest.mark.anyio
async def test_a_clip_is_rendered_once_and_nothing_else_stays_in_the_folder(tmp_path: Path) -> None:
    def files() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in tmp_path.iterdir()}

    await rendered(tmp_path, [subject(RED)])
    before = files()
    await rendered(tmp_path, [subject(RED)])

    assert files() == before
    assert len(before) == 1


@pytest.mark.anyio
async def test_a_clip_that_cannot_be_rendered_is_a_failed_task_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_bytes(b"a file")
    answer, _ = await outcome(folder, [subject(RED)])

    assert answer["task"]["status"] == "TASK_STATUS_FAILED"
    assert answer["task"]["reason"].startswith(f"the sandbox could not render the clip: cannot write to {folder}")


def test_the_renderer_is_a_program_that_reads_a_clip_from_stdin(tmp_path: Path) -> None:
    """A folder full of look-alike modules, where an agent was started, must not get into it."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    command = [sys.executable, "-P", "-m", "refvideo_mcp.sandbox.film", "out.mp4"]
    done = subprocess.run(command, input=b"{}", capture_output=True, cwd=tmp_path, check=False)

    assert done.returncode == 1
    assert b"missing 10 required positional arguments: 'prompt'" in done.stderr
