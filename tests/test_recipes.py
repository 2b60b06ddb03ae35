"""docs/recipes.md: every command is run as it is printed. As a program, this file makes the page's pictures again."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import pytest
from PIL import Image

import refvideo_mcp.cli
from command_line import environment
from refvideo_mcp.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = {section.split("\n")[0]: section for section in PAGE.split("\n## ")[1:]}


def cook(recipe: str, folder: Path, **settings: str) -> list[Path]:
    """Run a recipe's commands in a folder that has the demo's pictures, and return the videos that it made."""
    (folder / "refvideo-demo").mkdir()
    for name in ("fox", "lantern"):
        with Image.open(Path(refvideo_mcp.cli.__file__).parent / f"{name}.webp") as picture:
            picture.save(folder / "refvideo-demo" / f"{name}.png")
    (commands,) = re.findall(r"```sh\n(.*?)```", RECIPES[recipe], re.DOTALL)
    with Sandbox(seconds=0.5) as router:
        env = environment(
            MYROUTER_BASE_URL=router.url,
            MYROUTER_API_KEY="local",
            REFVIDEO_OUTPUT_DIR=str(folder / "videos"),
            XDG_CACHE_HOME=str(folder / "cache"),
            XDG_DATA_HOME=str(folder / "data"),
            XDG_STATE_HOME=str(folder / "state"),
            PATH=f"{Path(sys.executable).parent}:{environment()['PATH']}",
            **settings,
        )
        command = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    printed = [Path(line) for line in done.stdout.splitlines() if line.endswith(".mp4")]
    return [folder / path for path in printed]


@pytest.mark.skipif(sys.platform == "win32", reason="the page is written for a POSIX shell")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_makes_what_it_says(recipe: str, tmp_path: Path) -> None:
    section = RECIPES[recipe]
    times, seconds = re.findall(r"(?:(\d) . )?(\d) s\.\n*$", section)[0]
    videos = cook(recipe, tmp_path, REFVIDEO_PREVIEW="off")
    assert len(set(videos)) == int(times or 1)
    for video in videos:
        with av.open(video) as film:
            assert film.duration is not None
            assert film.duration / av.time_base == pytest.approx(int(seconds), abs=0.2)
            shape = film.streams.video[0].width / film.streams.video[0].height
            asked = re.findall(r"--aspect-ratio (\d+):(\d+)", section)
            assert shape == pytest.approx(int(asked[0][0]) / int(asked[0][1]) if asked else 16 / 9, abs=0.02)
            assert bool(film.streams.audio) == ("--bgm" in section.split("```")[1])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_shows_a_small_picture(recipe: str) -> None:
    (picture,) = re.findall(r"\((images/.*?)\)", RECIPES[recipe])
    file = ROOT / "docs" / picture
    assert file.stat().st_size < 40_000
    with Image.open(file) as strip:
        assert strip.width == WIDTH


WIDTH = 640


def main() -> None:
    """Make the page's pictures again: the strip of each recipe's first video."""
    for recipe, section in RECIPES.items():
        folder = Path(tempfile.mkdtemp())
        cook(recipe, folder)
        strips = [
            file for file in (folder / "cache").rglob("*.jpg") if re.fullmatch(r"preview-[0-9a-f]{32}", file.stem)
        ]
        first = min(strips, key=lambda file: file.stat().st_mtime)
        (picture,) = re.findall(r"\((images/.*?)\)", section)
        with Image.open(first) as strip:
            small = strip.resize((WIDTH, round(strip.height * WIDTH / strip.width)), Image.Resampling.LANCZOS)
            small.save(ROOT / "docs" / picture, quality=70, method=6)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
