"""Loads the pictures named on the command line and prints what memory that took: a program of its own, for Linux."""

import json
import re
import sys
from pathlib import Path

import anyio
from PIL import Image

from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images
from refvideo_mcp.schemas import ReferenceVideoRequest


def peak() -> int:
    """The most memory this process has held so far. `ru_maxrss` would include the parent's."""
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def order(*images: str) -> ReferenceVideoRequest:
    return ReferenceVideoRequest.model_validate({"prompt": "@1 waves", "subjects": [{"images": list(images)}]})


def main(warm_up: str, *paths: str) -> None:
    room = Images(Consent(folders=[Path(warm_up).parent]))
    anyio.run(room.load, order(warm_up))
    before = peak()
    anyio.run(room.load, order(*paths))
    grown = peak() - before
    encoded = [Path(path).stat().st_size for path in paths]
    decoded = []
    for path in paths:
        with Image.open(path) as image:
            decoded.append(image.width * image.height * 4)  # Pillow keeps 4 bytes for a pixel of any colours
    sys.stdout.write(json.dumps({"grown": grown, "encoded": sum(encoded), "decoded": sorted(decoded)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
