"""`refvideo-mcp demo` is the first thing people see: one command, and a video plays."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest
from PIL import Image

from command_line import call, run, run_in, running
from refvideo_mcp.extras import how_to_install

TO_PASTE = r"claude mcp add refvideo -e MYROUTER_API_KEY=sandbox (-e REFVIDEO_IMAGE_DIRS=(\S+) )?-- .*refvideo.mcp"
TO_SAY = r"  Make a video of (.*): it winks at the camera\."


def only(place: Path, ending: str) -> Path:
    (found,) = place.glob(f"*{ending}")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two pictures in it."""
    folder = tmp_path_factory.mktemp("demo")
    for name in ("front", "side"):
        Image.new("RGB", (320, 240), "tomato").save(folder / f"{name}.jpg")
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Two whole runs at once, because a job takes eight seconds: one as it comes, one with everything put in."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['av'] = None\n")
    views = [part for name in ("front", "side") for part in ("--image", f"cat={folder / name}.jpg")]
    with ThreadPoolExecutor() as pool:
        # Settings of the user must not matter: these would be refused, and a key must not go to a sandbox.
        settings = {"MYROUTER_API_KEY": "a key", "MYROUTER_BASE_URL": "http://router.example", "FORCE_COLOR": "1"}
        fresh = {"TMPDIR": str(folder)}  # no clip from an earlier run
        as_it_comes = pool.submit(run, "demo", "--out", str(folder / "videos"), **settings, **fresh)
        own = ("--out", str(folder / "own"), "--prompt", "@cat naps", *views)
        without_extra = pool.submit(run, "demo", *own, PYTHONPATH=str(folder), **fresh)
        return [as_it_comes.result(), without_extra.result()]


def test_the_demo_makes_the_video_that_it_says_it_made(
    folder: Path, runs: list[subprocess.CompletedProcess[str]]
) -> None:
    found, out = runs[0], folder / "videos"
    assert (found.returncode, found.stderr) == (0, "")

    video = only(out, ".mp4")
    with av.open(video) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.width, stream.height) == ("h264", 1280, 720)
        assert stream.average_rate == 24
        assert sum(1 for _ in container.decode(stream)) == 5 * 24
    size = f"{video.stat().st_size / 1e6:.1f} MB"
    strip = only(out, ".jpg")
    assert strip.stem == video.stem
    facts = f"1280x720, 5.0 s, 24 frames/s, H.264, {size}\n  {strip}: what the agent sees of it\n"
    assert f"  {video}\n  {facts}" in found.stdout
    with Image.open(strip) as shown:
        assert shown.width > 3 * shown.height
    # Its server may be started anywhere.
    assert re.findall(TO_PASTE, found.stdout)[0][1] == str(out)
    assert re.findall(TO_SAY, found.stdout) == [str(out / "fox.png")]
    assert re.search(r"get_task_result +processing, \d+ %\n", found.stdout)
    assert "\x1b" not in found.stdout

    for picture in ("fox.png", "lantern.png"):
        with Image.open(out / picture) as drawn:
            drawn.load()
            assert drawn.size == (1280, 720)
            assert str(out / picture) in found.stdout


def test_people_put_in_their_own_and_without_the_video_extra_get_a_gif(
    folder: Path, runs: list[subprocess.CompletedProcess[str]]
) -> None:
    found, out = runs[1], folder / "own"
    assert (found.returncode, found.stderr) == (0, "")
    # The pictures stay where they are: their folder is what the pasted server may read.
    assert re.findall(TO_PASTE, found.stdout)[0][1] == str(folder)

    video = only(out, ".gif")
    assert "cat-naps 5s" in video.name
    with Image.open(video) as picture:
        assert f"  {video}\n  {picture.width}x{picture.height}, " in found.stdout
    assert f"For MP4: {how_to_install('av')}\n" in found.stdout
    assert list(out.iterdir()) == [video]


@pytest.mark.parametrize("place", ["elsewhere/.hidden", "home"])
def test_a_picture_that_was_named_is_used_wherever_it_is(tmp_path: Path, place: str) -> None:
    for folder in ("home", "work", "temporary", place):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    picture = tmp_path / place / "cat.png"
    Image.new("RGB", (320, 240), "tomato").save(picture)
    (tmp_path / "work" / "link.png").symlink_to(picture)
    settings = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['av'] = None\n")  # a GIF is made sooner
    images = ("--image", f"cat={picture}", "--image", "cat=link.png")
    found = run_in(tmp_path / "work", "demo", "--prompt", "@cat naps", *images, **settings)
    assert (found.returncode, found.stderr) == (0, "")
    ((_, folder),) = re.findall(TO_PASTE, found.stdout)
    if place == "home":  # no advice opens the home folder
        pictures = tmp_path / "home" / "Pictures"
        assert folder == ""
        assert f"Put cat.png into {pictures}; for Claude Code, paste:\n" in found.stdout
        assert re.findall(TO_SAY, found.stdout) == [str(pictures / "cat.png")]
    else:
        assert folder == str(picture.parent)
        assert re.findall(TO_SAY, found.stdout) == [str(picture)]


@pytest.mark.parametrize("image", ["cat", "=cat.png", "cat=", "cat=missing.png", f"cat={__file__}"])
def test_an_image_that_is_none_is_wrong_usage(image: str, tmp_path: Path) -> None:
    found = call("demo", "--out", str(tmp_path / "videos"), "--image", image)
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"refvideo-mcp: --image .*\n", found.stderr)
    assert not (tmp_path / "videos").exists()


def test_a_refusal_is_told_in_the_server_s_own_words(folder: Path, tmp_path: Path) -> None:
    found = run("demo", "--out", str(tmp_path), "--prompt", "@7 runs", "--image", f"1={folder}/front.jpg")
    assert found.returncode == 1
    assert re.fullmatch(r"refvideo-mcp demo: .*`@7` names no subject.*\n", found.stderr)


def test_a_server_that_does_not_start_is_one_line_with_its_last_words(folder: Path, tmp_path: Path) -> None:
    broken = "import sys\nif 'serve' in sys.orig_argv:\n    sys.exit('no room for a server')\n"
    (tmp_path / "sitecustomize.py").write_text(broken)
    found = run("demo", "--out", str(tmp_path), "--image", f"1={folder}/front.jpg", PYTHONPATH=str(tmp_path))
    assert found.returncode == 1
    assert re.fullmatch(r"refvideo-mcp demo: the server gave no answer.*no room for a server\n", found.stderr)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    found = call("demo", "--out", str(tmp_path / "taken"))
    assert found.returncode == 1
    assert re.fullmatch(rf"refvideo-mcp demo: {re.escape(str(tmp_path / 'taken'))}: .*\n", found.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process, and no pty")
def test_on_a_terminal_there_is_a_bar_and_ctrl_c_ends_it_quietly(folder: Path, tmp_path: Path) -> None:
    terminal, its_end = os.openpty()
    seen = b""
    with running("demo", "--out", str(tmp_path), "--image", f"1={folder}/front.jpg", stdout=its_end) as demo:
        os.close(its_end)
        while b"get_task_result" not in seen:
            seen += os.read(terminal, 1024)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate()
        assert (demo.returncode, said) == (130, b"")
    os.close(terminal)
    assert "━".encode() in seen


def test_a_server_killed_half_way_loses_nothing_and_buys_nothing_twice(tmp_path: Path) -> None:
    dead = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # the user's proxy must not matter
    found = run("demo", "--crash", "--out", str(tmp_path), **dead)
    assert (found.returncode, found.stderr) == (0, "")
    assert "the server is gone, the agent has lost the task id" in found.stdout
    assert re.search(r"the sandbox counted +POSTs: 1, jobs: 1\n", found.stdout)
    with av.open(only(tmp_path, ".mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5 * 24
