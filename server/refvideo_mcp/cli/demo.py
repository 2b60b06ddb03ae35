"""`refvideo-mcp demo`: the main job on the sandbox, done as a user's client would do it."""

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refvideo_mcp.cli.config import as_shell_line, server_command
from refvideo_mcp.errors import InvalidCall, clean
from refvideo_mcp.extras import how_to_install
from refvideo_mcp.files import is_broad, is_drive, real

if TYPE_CHECKING:
    from refvideo_mcp.cli.console import Console

__all__ = ["Failed", "add_demo", "save_picture"]

PROMPT = "@fox follows @lantern home, slow dolly in"
# With this seed the clip's accents are the colours of the two drawings.
ORDER = {"duration": 5, "resolution": "720p", "bgm": True, "seed": 33311}


class Failed(Exception):
    """Why it cannot go on; its text is what the person at the terminal reads."""


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", help="what happens; name the subjects as @id")
    parser.add_argument("--image", metavar="ID=PATH", action="append", help="a reference picture; repeat for more")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("refvideo-demo"), help="default: %(default)s")
    parser.add_argument("--crash", action="store_true", help="kill the server half-way and show that nothing is lost")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    """Make one video and show it. Without any image, it is the fox's and the lantern's.

    Raises:
        InvalidCall: an image is none.
    """
    try:
        _show(options.prompt, options.image or [], options.out, crash=options.crash)
    except Failed as error:
        return _told(str(error))
    except OSError as error:
        return _told(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    return 0


def _told(problem: str) -> int:
    print(f"refvideo-mcp demo: {problem}", file=sys.stderr)
    return 1


def _show(prompt: str | None, images: list[str], out: Path, *, crash: bool) -> None:
    # What takes long to import is imported here and below: Ctrl-C is quiet meanwhile, too.
    from refvideo_mcp.cli.console import Console, shown

    subjects = _own_subjects(images)
    if not prompt:
        prompt = f"{' and '.join(f'@{i}' for i in subjects)} look around, slow dolly in" if subjects else PROMPT
    console = Console(sys.stdout, len("generate_reference_video"))
    console.line("refvideo-mcp demo", "bold", "  Pictures become a video. Simulated router: nothing is paid.")
    console.line()
    out = out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    subjects = subjects or {subject: [str(save_picture(subject, out))] for subject in ("fox", "lantern")}
    console.done("pictures", ", ".join(shown(picture) for views in subjects.values() for picture in views))
    order = {"prompt": prompt, "subjects": [{"id": i, "images": views} for i, views in subjects.items()], **ORDER}
    local = [Path(view) for views in subjects.values() for view in views if not view.startswith(("https:", "http:"))]
    folders = list(dict.fromkeys(real(picture).parent for picture in local))
    video = _make_video(order, folders, out, console, crash=crash)
    console.line()
    console.line(f"  {shown(str(video))}", f"bold link {video.as_uri()}")
    for fact in _facts(video):
        console.line(f"  {fact}")
    console.line()
    for line, style in _to_your_assistant(next(iter(subjects.values()))[0]):
        console.line(line, style)


def _to_your_assistant(picture: str) -> Iterator[tuple[str, str]]:
    """What makes the reader's own assistant do the same with the picture, and the style of each line."""
    folder = None if picture.startswith(("https:", "http:")) else real(Path(picture)).parent
    allowing = []
    if folder and (is_broad(folder) or is_drive(folder)):  # no advice opens a home folder
        import platformdirs

        pictures = platformdirs.user_pictures_path()
        yield f"Your own assistant can do it too. Put {Path(picture).name} into {pictures}; for Claude Code, paste:", ""
        picture = str(pictures / Path(picture).name)
    else:
        allowing = ["-e", f"REFVIDEO_IMAGE_DIRS={folder}"] if folder else []
        yield "Your own assistant can do it too. For Claude Code, paste:", ""
    add = ["claude", "mcp", "add", "refvideo", "-e", "MYROUTER_API_KEY=sandbox", *allowing, "--", *server_command()]
    yield f"  {as_shell_line(add)}", "cyan"
    yield "Then say:", ""
    yield f"  Make a video of {picture}: it winks at the camera.", "cyan"


def _own_subjects(images: list[str]) -> dict[str, list[str]]:
    """Subject id → its pictures, as URLs and absolute paths."""
    from PIL import Image

    subjects: dict[str, list[str]] = {}
    for image in images:
        subject, _, source = (part.strip() for part in image.partition("="))
        subject = subject.removeprefix("@")
        if not subject or not source:
            raise InvalidCall(f"--image {clean(image, 80)} is not ID=PATH.", "For example: --image cat=photos/cat.jpg")
        if not source.startswith(("https://", "http://")):
            path = Path(source).expanduser().absolute()
            try:
                Image.open(path).close()
            except (OSError, ValueError, Image.DecompressionBombError):
                raise InvalidCall(f"--image {clean(image, 80)}: there is no picture at {path}.") from None
            source = str(path)
        subjects.setdefault(subject, []).append(source)
    return subjects


def save_picture(subject: str, folder: Path) -> Path:
    """Put the fox or the lantern into `folder`. A file that has its name already is left alone and used."""
    from PIL import Image

    path = folder / f"{subject}.png"
    if not path.exists():
        content = io.BytesIO()
        with Image.open(Path(__file__).with_name(f"{subject}.webp")) as picture:
            picture.save(content, "PNG")
        path.write_bytes(content.getvalue())
    return path


def _make_video(order: dict[str, Any], folders: list[Path], out: Path, console: "Console", *, crash: bool) -> Path:
    import anyio
    from mcp import MCPError

    from refvideo_mcp.cli.demo_client import talk, talk_through_a_crash

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        try:
            return anyio.run(talk_through_a_crash if crash else talk, order, folders, out, console, log)
        except (MCPError, BaseExceptionGroup) as error:
            match _first(error):
                case MCPError() as cause:
                    log.seek(0)
                    last = (log.read().strip().splitlines() or [""])[-1]
                    raise Failed(f"the server gave no answer ({cause}). {clean(last)}".rstrip()) from error
                case Failed() | OSError() | KeyboardInterrupt() as cause:
                    raise cause from None
                case _:
                    raise


def _first(error: BaseException) -> BaseException:
    """The SDK's task groups wrap what happens inside them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _facts(video: Path) -> list[str]:
    """What the file holds, as read back from it."""
    size = f"{video.stat().st_size / 1e6:.1f} MB"
    if video.suffix == ".gif":
        from PIL import Image, ImageSequence

        with Image.open(video) as picture:
            seconds = sum(frame.info["duration"] for frame in ImageSequence.Iterator(picture)) / 1000
            facts = f"{picture.width}x{picture.height}, {seconds:.1f} s, GIF, {size}"
        return [facts, f"For MP4: {how_to_install('av')}"]
    import av

    from refvideo_mcp.cli.console import shown
    from refvideo_mcp.cli.demo_client import preview_of

    with av.open(video) as container:
        stream = container.streams.video[0]
        seconds = (container.duration or 0) / av.time_base
        codec = {"h264": "H.264"}.get(stream.codec.name, stream.codec.name)
        rate = f"{float(stream.average_rate or 0):g} frames/s"
        facts = f"{stream.width}x{stream.height}, {seconds:.1f} s, {rate}, {codec}, {size}"
    strip = preview_of(video)
    return [facts, *([f"{shown(str(strip))}: what the agent sees of it"] if strip.exists() else [])]
