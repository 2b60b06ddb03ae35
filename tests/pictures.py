"""Pictures and films for tests, kind and hostile, made on the spot."""

import array
import base64
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

SECRET = "owner-lives-at-52.5N-13.4E"
ORIENTATION, GPS, DESCRIPTION = 0x0112, 0x8825, 0x010E
RED, GREEN, BLUE, GOLD = (200, 30, 40), (40, 160, 60), (30, 60, 200), (230, 180, 40)

Rgb = tuple[int, int, int]


def scene(width: int = 320, height: int = 240, mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right, a green corner top left; with alpha, the right half shows through."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    image.paste((30, 30, 200), (width // 2, 0, width, height))
    image.paste((30, 200, 30), (0, 0, width // 4, height // 4))
    if mode == "RGBA":
        alpha = Image.new("L", image.size, 255)
        alpha.paste(60, (width // 2, 0, width, height))
        image.putalpha(alpha)
        return image
    return image.convert(mode)


def noise(width: int, height: int) -> Image.Image:
    """What no compression makes smaller."""
    return Image.frombytes("RGB", (width, height), random.Random(1).randbytes(width * height * 3))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def data_uri(picture: bytes, label: str = "image/png") -> str:
    return f"data:{label};base64,{base64.b64encode(picture).decode()}"


def film(file: Path, pictures: Sequence[Image.Image], seconds: int = 5) -> Path:
    """A video that shows each of the pictures for an equal time, at 24 frames a second."""
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
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


def private_exif(orientation: int = 1) -> Image.Exif:
    """What a phone writes: where, and which way up."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[DESCRIPTION] = SECRET
    exif[GPS] = {1: "N", 2: (52.0, 31.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)}
    return exif


def private_text() -> PngInfo:
    text = PngInfo()
    text.add_text("Comment", SECRET)
    return text


def swapped_profile() -> bytes:
    """A colour profile in which the first channel is green and the second one red."""
    return (
        srgb_profile()
        .replace("sRGB".encode("utf-16-be"), "GRB!".encode("utf-16-be"))
        .replace(b"rXYZ", b"????")
        .replace(b"gXYZ", b"rXYZ")
        .replace(b"????", b"gXYZ")
    )


def srgb_profile() -> bytes:
    """The same at any time: pictures name tests, which all workers must call alike."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + profile[36:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int) -> bytes:
    """A PNG that is tiny as a file; all black as far as it goes."""
    packed = zlib.compress(bytes(min(1 + width // 8, 10_000) * min(height, 2000)), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_with_text_bomb() -> bytes:
    """A text chunk that unpacks to 64 MB."""
    plain = saved(scene(), "PNG")
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 * 2**20), 9))
    return plain[:33] + bomb + plain[33:]


def zip_behind(picture: bytes) -> bytes:
    """A picture that is a ZIP archive too."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("secret.txt"), SECRET)
    return picture + archive.getvalue()


def heic() -> bytes:
    """The head of a HEIC file."""
    return struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)


def decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image


def grey16(width: int, height: int) -> Image.Image:
    """From black on the left to white on the right, 16 bits a pixel."""
    row = array.array("H", (round(x / (width - 1) * 65535) for x in range(width)))
    return Image.frombytes("I;16", (width, height), row.tobytes() * height)


def tiff_of(
    *pages: Sequence[tuple[int, int, Sequence[int]]], pixels: bytes = b"", below: Sequence[int] = (), order: str = "<"
) -> bytes:
    """A TIFF from its directories, each a list of (tag, type, values); `pixels` stand at 8.

    The pages in `below` are sub-directories of the first one.
    """
    forms = {1: "B", 3: "H", 4: "I", 7: "B"}
    starts: list[int] = []
    bodies: list[list[tuple[int, int, Sequence[int]]]] = []
    place = 8 + len(pixels)
    for page in pages:
        # The offsets of sub-directories are known at the end only; they take as much room as any others.
        entries = sorted([*page, *([(330, 4, [0] * len(below))] if below and not starts else [])])
        starts.append(place)
        bodies.append(entries)
        inside = sum(
            len(v) * struct.calcsize(forms[t]) for _, t, v in entries if len(v) * struct.calcsize(forms[t]) > 4
        )
        place += 2 + 12 * len(entries) + 4 + inside
    chain = [number for number in range(len(pages)) if number not in below]
    file = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, starts[0]) + pixels
    for number, entries in enumerate(bodies):
        rows, values_at, data = b"", starts[number] + 2 + 12 * len(entries) + 4, b""
        for tag, kind, values in entries:
            values = [starts[page] for page in below] if tag == 330 else values
            packed = struct.pack(f"{order}{len(values)}{forms[kind]}", *values)
            rows += struct.pack(order + "HHI", tag, kind, len(values))
            if len(packed) > 4:
                rows += struct.pack(order + "I", values_at + len(data))
                data += packed
            else:
                rows += packed.ljust(4, b"\0")
        after = chain.index(number) + 1 if number in chain else len(chain)
        following = starts[chain[after]] if after < len(chain) else 0
        file += struct.pack(order + "H", len(entries)) + rows + struct.pack(order + "I", following) + data
    return file


def tiff_page(
    width: int, height: int, bits: Sequence[int], photometric: int, length: int
) -> list[tuple[int, int, Sequence[int]]]:
    """A directory whose pixels, uncompressed, stand at 8."""
    return [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, bits),
        (259, 3, [1]),
        (262, 3, [photometric]),
        (273, 4, [8]),
        (277, 3, [len(bits)]),
        (278, 3, [height]),
        (279, 4, [length]),
    ]


def raw(*, dng: bool) -> bytes:
    """A camera's raw file: a thumbnail that any program shows, and what the sensor saw below it."""
    thumbnail = scene(160, 120).tobytes()
    first = [*tiff_page(160, 120, (8, 8, 8), 2, len(thumbnail)), (254, 4, [1])]
    sensor = [*tiff_page(1200, 900, (16,), 32803, 1200 * 900 * 2), (254, 4, [0])]
    if dng:
        return tiff_of([*first, (50706, 1, (1, 4, 0, 0))], pixels=thumbnail)
    return tiff_of(first, sensor, pixels=thumbnail, below=[1])


def grey_profile(gamma: float = 1.8) -> bytes:
    """A small ICC profile for grey pictures."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + bytes(79)),
        (b"cprt", b"text\0\0\0\0none\0\0\0\0"),
        (b"wtpt", b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)),
        (b"kTRC", b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)),
    ]
    start = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks behind its head."""
    return png[:33] + b"".join(chunks) + png[33:]


def with_nclx(picture: bytes, primaries: int, transfer: int) -> bytes:
    """An AVIF that names other colours for the same numbers."""
    place = picture.index(b"colrnclx") + 8
    return picture[:place] + struct.pack(">HH", primaries, transfer) + picture[place + 4 :]


def jpeg_with_segments(count: int, segment: bytes) -> bytes:
    plain = saved(scene(), "JPEG")
    return plain[:2] + segment * count + plain[2:]


def video_head() -> bytes:
    return struct.pack(">I", 24) + b"ftypmp42" + bytes(4) + b"isommp42" + struct.pack(">I", 8) + b"mdat" + bytes(99)
