"""JPEGs whose last bytes are missing. Every viewer shows them; so do we, if only a little of the picture is lost."""

import io
from collections import defaultdict

from refvideo_mcp.errors import InvalidCall, ask_user
from refvideo_mcp.images.metadata import jpeg_segments

__all__ = ["completed"]

_END = b"\xff\xd9"
_MOST_LOST = 1 / 20
_BLOCK_ROW = 16
_FEW = 64
# Two ways to go on where the file stops: a decoder makes grey of the one and something else of the other.
_NOTHING, _SOMETHING = b"", b"\x5a\xa5\x33\xcc\x0f\x69" * 40
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}


def completed(content: bytes, name: str) -> tuple[bytes, int]:
    """The JPEG with an end, and how many rows at the bottom of its picture are lost.

    Raises:
        InvalidCall: more than a twentieth of the rows are lost, or all details are.
    """
    from PIL import Image, ImageChops

    coded = content.rstrip(b"\0")
    if len(content) - len(coded) < _FEW:  # more of them stand where a download stopped
        coded = content
    coded = coded.rstrip(b"\xff")  # half a marker
    if not _all_scans_began(coded):
        raise _cut_off(name)
    tries = []
    for filling in (_NOTHING, _SOMETHING):
        with Image.open(io.BytesIO(coded + filling + _END), formats=["JPEG"]) as image:
            image.load()
            tries.append(image.copy())
    # Where the two are the same, it was in the file.
    differing = ImageChops.difference(*tries).getbbox(alpha_only=False)
    height = tries[0].height
    lost = height - differing[1] if differing else 0
    if lost > max(_BLOCK_ROW, height * _MOST_LOST):
        raise _cut_off(name)
    return coded + _END, lost


def _cut_off(name: str) -> InvalidCall:
    return InvalidCall(
        f"{name} is a JPEG picture that is cut off: a part of it is missing.",
        ask_user("download or copy it again. Nothing was sent."),
    )


def _all_scans_began(content: bytes) -> bool:
    """Whether every component has a scan, and in progressive pictures one down to the last bit of each detail."""
    marker_of_frame, components = 0, set[int]()
    missing: dict[int, set[int]] = defaultdict(lambda: set(range(64)))
    for marker, segment, _ in jpeg_segments(memoryview(content)):
        if marker in _FRAMES:
            marker_of_frame, components = marker, set(segment[10::3][: segment[9]])
        elif marker == 0xDA:
            count = segment[4]
            first, last, bits = segment[5 + 2 * count : 8 + 2 * count]
            for component in segment[5 : 5 + 2 * count : 2]:
                if marker_of_frame not in _PROGRESSIVE:
                    missing[component] = set()
                elif bits & 0x0F == 0:
                    missing[component] -= set(range(first, last + 1))
    return bool(components) and not any(missing[component] for component in components)
