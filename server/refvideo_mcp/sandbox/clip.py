"""What a clip shows: the part of a request that the renderer needs, and the name its file gets."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from .rehearsals import without_tag
from .rules import parse_ratio

# Part of each file's name, so that a cache filled by an older renderer is not used.
_RENDERER = 1
_WIDEST = 4


@dataclass(frozen=True)
class Clip:
    """`seconds` long, `width` x `height` pixels (both even); `pictures` are (subject id, URL or data URI) in order."""

    prompt: str
    pictures: tuple[tuple[str, str], ...]
    seconds: int
    width: int
    height: int
    movement: str
    seed: int
    audio: bool
    bgm: bool
    watermark: bool

    @classmethod
    def from_request(cls, request: dict[str, Any], seed: int) -> "Clip":
        """The clip of a request that kept the rules."""
        width, height = _size(request.get("resolution", "720p"), request.get("aspect_ratio", "16:9"))
        return cls(
            prompt=without_tag(request["prompt"]),
            # An id is written on one line, whatever is in it.
            pictures=tuple(
                (" ".join(subject["id"].split()), image)
                for subject in request["subjects"]
                for image in subject["images"]
            ),
            seconds=request["duration"],
            width=width,
            height=height,
            movement=request.get("movement_amplitude", "auto"),
            seed=seed,
            audio=request.get("audio", False),
            bgm=request.get("bgm", False),
            watermark=request.get("watermark", False),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Clip":
        values = json.loads(text)
        values["pictures"] = tuple((subject, image) for subject, image in values["pictures"])
        return cls(**values)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @property
    def key(self) -> str:
        """The same for the same content, and for nothing else."""
        return hashlib.sha256(b"%d:" % _RENDERER + self.to_json()).hexdigest()[:32]


def _size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    short = int(resolution.removesuffix("p"))
    across, down = parse_ratio(aspect_ratio) or (16, 9)
    # 1000:1 keeps the router's rule, but is no picture: beyond 4:1 the clip stays 4:1.
    long = 2 * round(short * min(max(across, down) / min(across, down), _WIDEST) / 2)
    return (long, short) if across >= down else (short, long)
