"""Pictures for tests, kind and hostile, made on the spot."""

import io
import random
import struct
import zipfile
import zlib
from typing import Any

from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

SECRET = "owner-lives-at-52.5N-13.4E"
ORIENTATION, GPS, DESCRIPTION = 0x0112, 0x8825, 0x010E


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
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


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
        file.writestr("secret.txt", SECRET)
    return picture + archive.getvalue()


def heic() -> bytes:
    """The head of a HEIC file."""
    return struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)


def decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image
