"""Whatever form a picture has, what leaves shows the colours that a viewer shows, in 8 bits, and says what it left."""

import base64
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image, ImageCms, features

import pictures
from pictures import chunk, decoded, grey16, noise, private_exif, saved, scene, tiff_of, tiff_page, with_chunks
from refvideo_mcp.errors import Refused
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images, LoadedRequest
from refvideo_mcp.schemas import ReferenceVideoRequest
from refvideo_mcp.videos.previews import Previews

pytestmark = pytest.mark.anyio
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")


async def load(folder: Path, **files: bytes) -> LoadedRequest:
    """The files as they would be sent; `a_png` is called a.png."""
    names = []
    for name, picture in files.items():
        names.append(str(folder / name.replace("_", ".")))
        await anyio.Path(names[-1]).write_bytes(picture)
    request = {"prompt": "@1 waves", "subjects": [{"images": names}]}
    return await Images(Consent(folders=[folder])).load(ReferenceVideoRequest.model_validate(request))


def sent(loaded: LoadedRequest) -> tuple[bytes, Image.Image]:
    content = base64.b64decode(loaded.body()["subjects"][0]["images"][0].partition(",")[2])
    if content.startswith(b"\x89PNG"):
        assert content[24] == 8  # bits, in the file itself: Pillow reads some others as 8 too
    picture = decoded(content)
    assert picture.mode in ("L", "RGB", "RGBA", "LA", "P")
    assert not {"icc_profile", "exif", "gamma", "cicp"} & {key for key in picture.info if key != "gamma"}
    return content, picture


def colour(picture: Image.Image, x: int, y: int) -> Any:
    return picture.convert("RGB").getpixel((x, y))


def shows_the_scene(picture: Image.Image, *, within: int = 12) -> None:
    assert picture.size == (320, 240)
    for place, expected in (((20, 20), GREEN), ((100, 200), RED), ((300, 200), BLUE)):
        assert colour(picture, *place) == pytest.approx(expected, abs=within)


def shows_a_ramp(picture: Image.Image) -> None:
    """Black, middle grey, white, as they were."""
    width = picture.width
    shown = [colour(picture, x, picture.height // 2)[0] for x in (0, width // 4, width // 2, width - 1)]
    assert shown == pytest.approx([0, 64, 128, 255], abs=3)


class TestGreys:
    @pytest.mark.parametrize("size", [(300, 200), (3400, 3000)])
    async def test_a_grey_png_of_16_bits_is_sent_as_it_looks(self, tmp_path: Path, size: tuple[int, int]) -> None:
        """Large ones were cut off at 255 while they were scaled down, and came out white."""
        grey = grey16(*size)
        if size[0] > 1000:  # noise, or it would be small as a file
            grey = Image.frombytes("I;16", size, random.Random(1).randbytes(size[0] * size[1] * 2))
        picture = saved(grey, "PNG", compress_level=1)
        _, shown = sent(await load(tmp_path, a_png=picture))
        if size[0] < 1000:
            shows_a_ramp(shown)
        else:
            assert len(picture) > 16_000_000
            middle = shown.convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
            assert 100 < middle < 156  # type: ignore[operator]

    @pytest.mark.parametrize(("order", "bits", "photometric"), [("<", 16, 1), (">", 16, 1), ("<", 16, 0), ("<", 12, 1)])
    async def test_greys_of_tiff_files_keep_their_range(
        self, tmp_path: Path, order: str, bits: int, photometric: int
    ) -> None:
        most = 2**bits - 1
        values = [round(x / 255 * most) for x in range(256)]
        if photometric == 0:
            values = [most - value for value in values]
        row = struct.pack(f"{order}256H", *values)
        if bits == 12:
            pairs = zip(values[::2], values[1::2], strict=True)
            row = b"".join(((a << 12) | b).to_bytes(3) for a, b in pairs)
        pixels = row * 128
        picture = tiff_of(tiff_page(256, 128, [bits], photometric, len(pixels)), pixels=pixels, order=order)
        shows_a_ramp(sent(await load(tmp_path, a_tif=picture))[1])

    @pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
    async def test_floating_points_keep_their_range(self, tmp_path: Path, white: float) -> None:
        ramp = Image.linear_gradient("L").rotate(90).convert("F").point(lambda value: value * (white / 255) + 0)
        shows_a_ramp(sent(await load(tmp_path, a_tif=saved(ramp, "TIFF")))[1])

    async def test_values_that_are_no_numbers_are_survived(self, tmp_path: Path) -> None:
        odd = Image.frombytes("F", (130, 130), struct.pack("f", float("nan")) * 130 * 129 + struct.pack("f", 1) * 130)
        assert sent(await load(tmp_path, a_tif=saved(odd, "TIFF")))[1].size == (130, 130)

    @pytest.mark.parametrize("bits", [1, 2, 4])
    async def test_greys_of_few_bits_leave_with_8(self, tmp_path: Path, bits: int) -> None:
        levels = 2**bits - 1
        grey = Image.linear_gradient("L").rotate(90).point(lambda v: round(v / 255 * levels) * 255 // levels)
        packed = grey.convert("1", dither=Image.Dither.NONE) if bits == 1 else grey.quantize(2**bits)
        _, shown = sent(await load(tmp_path, a_png=saved(packed, "PNG", bits=bits)))
        assert colour(shown, 0, 100) == (0, 0, 0)
        assert colour(shown, 255, 100) == (255, 255, 255)

    @pytest.mark.parametrize("mode", ["I;16", "LA", "P", "L", "RGB"])
    async def test_what_shows_through_stays_so(self, tmp_path: Path, mode: str) -> None:
        if mode == "I;16":
            picture = saved(grey16(300, 200), "PNG", transparency=0)
        elif mode == "LA":
            picture = saved(scene(mode="LA"), "PNG", pnginfo=pictures.private_text())
            picture = saved(Image.merge("LA", [Image.new("L", (300, 200), 90), Image.new("L", (300, 200), 0)]), "PNG")
        else:
            picture = saved(Image.new(mode, (300, 200), 0), "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
        shown = sent(await load(tmp_path, a_png=picture))[1].convert("RGBA")
        assert shown.getpixel((0, 100))[3] == 0  # type: ignore[index]


class TestOtherColours:
    @pytest.mark.parametrize(
        "picture",
        [
            saved(scene(mode="CMYK"), "JPEG", quality=95),
            saved(scene(mode="CMYK"), "TIFF"),
            saved(scene(), "TIFF", compression="jpeg", quality=95),
            saved(scene().quantize(8), "PNG"),
            saved(scene(mode="RGBA"), "TIFF"),
            saved(scene(), "JPEG", quality=95, keep_rgb=True, subsampling=0),
            saved(scene(), "BMP"),
        ],
        ids=["cmyk-jpeg", "cmyk-tiff", "jpeg-tiff", "palette", "rgba-tiff", "rgb-jpeg", "bmp"],
    )
    async def test_every_kind_of_colours_arrives_as_it_looks(self, tmp_path: Path, picture: bytes) -> None:
        shows_the_scene(sent(await load(tmp_path, a_png=picture))[1])

    async def test_lab_is_converted(self, tmp_path: Path) -> None:
        lab = ImageCms.profileToProfile(
            scene(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        assert lab is not None
        shows_the_scene(sent(await load(tmp_path, a_tif=saved(lab, "TIFF")))[1], within=15)

    @pytest.mark.parametrize("order", ["<", ">"])
    async def test_colours_of_16_bits_leave_with_8(self, tmp_path: Path, order: str) -> None:
        plain = scene().tobytes()
        wide = b"".join(struct.pack(order + "H", value * 257) for value in plain)
        tiff = tiff_of(tiff_page(320, 240, (16, 16, 16), 2, len(wide)), pixels=wide, order=order)
        shows_the_scene(sent(await load(tmp_path, a_tif=tiff))[1])
        rows = b"".join(
            b"\0" + b"".join(struct.pack(">H", v * 257) for v in plain[y * 960 : (y + 1) * 960]) for y in range(240)
        )
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 320, 240, 16, 2, 0, 0, 0))
        png = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        shows_the_scene(sent(await load(tmp_path, a_png=png))[1])

    async def test_a_jpeg_without_jfif_whose_adobe_mark_is_long_keeps_its_colours(self, tmp_path: Path) -> None:
        """Only that mark tells that these are no YCbCr."""
        plain = saved(scene(), "JPEG", quality=95, keep_rgb=True, subsampling=0)
        mark = b"\xff\xee\0\x0eAdobe"
        assert mark in plain
        longer = plain.replace(mark, b"\xff\xee\0\x10Adobe").replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\0\0\0")
        shows_the_scene(sent(await load(tmp_path, a_jpg=longer))[1])


class TestProfiles:
    """As viewers do: a profile of other colours than the picture's says nothing."""

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("profile", ["grey", "broken", "long"])
    async def test_a_profile_that_cannot_be_meant_is_left_out_and_the_colours_stay(
        self, tmp_path: Path, kind: str, profile: str
    ) -> None:
        given = {"grey": pictures.grey_profile(), "broken": b"x" * 300, "long": b"\0\0\0\0lcms" + bytes(3_000_000)}
        if profile == "long" and kind == "PNG":
            packed = with_chunks(saved(scene(), "PNG"), chunk(b"iCCP", b"long\0\0" + zlib.compress(given["long"])))
        else:
            packed = saved(scene(), kind, icc_profile=given[profile])
        content, shown = sent(await load(tmp_path, a_png=packed))
        shows_the_scene(shown)
        assert b"GRAY" not in content

    async def test_a_profile_is_srgb_by_what_it_does_not_by_its_name(self, tmp_path: Path) -> None:
        liar = pictures.swapped_profile().replace("GRB!".encode("utf-16-be"), "sRGB".encode("utf-16-be"))
        _, shown = sent(await load(tmp_path, a_png=saved(scene(), "PNG", icc_profile=liar)))
        assert colour(shown, 100, 200) == pytest.approx((30, 200, 30), abs=12)

    async def test_a_grey_picture_obeys_grey_profiles_and_stays_grey(self, tmp_path: Path) -> None:
        ramp = Image.linear_gradient("L").rotate(90)
        for profile, middle in ((pictures.grey_profile(1.0), 188), (pictures.swapped_profile(), 128)):
            _, shown = sent(await load(tmp_path, a_jpg=saved(ramp, "JPEG", quality=98, icc_profile=profile)))
            assert shown.mode == "L"
            assert shown.getpixel((128, 100)) == pytest.approx(middle, abs=4)

    async def test_a_profile_for_printing_is_obeyed_where_it_is_one(self, tmp_path: Path) -> None:
        """An sRGB profile in a CMYK picture is none for it."""
        packed = saved(scene(mode="CMYK"), "JPEG", quality=95, icc_profile=pictures.srgb_profile())
        shows_the_scene(sent(await load(tmp_path, a_jpg=packed))[1])


def linear(value: int) -> int:
    """An sRGB value as the light that it is, in 8 bits."""
    part = value / 255
    return round(255 * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4))


class TestNumbers:
    """PNG's gAMA, cHRM and cICP, AVIF's and HEIC's nclx: colours without a profile."""

    async def test_a_png_of_linear_light_is_shown_as_browsers_show_it(self, tmp_path: Path) -> None:
        picture = with_chunks(saved(scene().point(linear), "PNG"), chunk(b"gAMA", struct.pack(">I", 100_000)))
        shows_the_scene(sent(await load(tmp_path, a_png=picture))[1])

    @pytest.mark.parametrize("gamma", [45455, 0, 1, 2**32 - 1])
    async def test_the_usual_gamma_and_senseless_ones_change_nothing(self, tmp_path: Path, gamma: int) -> None:
        picture = with_chunks(
            saved(scene(), "PNG"),
            chunk(b"gAMA", struct.pack(">I", gamma)),
            chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        )
        assert sent(await load(tmp_path, a_png=picture))[0] == picture

    async def test_chromaticities_count(self, tmp_path: Path) -> None:
        """Display P3's red is redder than sRGB's."""
        places = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
        picture = with_chunks(saved(scene(), "PNG"), chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"cHRM", places))
        assert colour(sent(await load(tmp_path, a_png=picture))[1], 100, 200)[0] == pytest.approx(218, abs=4)
        senseless = with_chunks(saved(scene(), "PNG"), chunk(b"cHRM", bytes(32)))
        shows_the_scene(sent(await load(tmp_path, b_png=senseless))[1])

    async def test_a_png_that_says_srgb_means_it(self, tmp_path: Path) -> None:
        picture = with_chunks(saved(scene(), "PNG"), chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000)))
        shows_the_scene(sent(await load(tmp_path, a_png=picture))[1])

    async def test_a_wide_gamut_by_number_is_converted(self, tmp_path: Path) -> None:
        """P3 is redder than sRGB, BT.2020 more so."""
        redness = []
        for primaries in (1, 12, 9):
            picture = with_chunks(saved(scene(), "PNG"), chunk(b"cICP", bytes((primaries, 13, 0, 1))))
            loaded = await load(tmp_path, a_png=picture)
            assert loaded.warnings == ()
            content, shown = sent(loaded)
            assert b"cICP" not in content
            redness.append(colour(shown, 100, 200)[0])
        assert redness == pytest.approx([200, 218, 249], abs=6)

    async def test_a_narrow_range_is_widened(self, tmp_path: Path) -> None:
        narrow = scene().point(lambda value: round(16 + value * 219 / 255))
        picture = with_chunks(saved(narrow, "PNG"), chunk(b"cICP", bytes((1, 13, 0, 0))))
        shows_the_scene(sent(await load(tmp_path, a_png=picture))[1])

    @pytest.mark.parametrize("transfer", [16, 18])
    async def test_an_hdr_png_is_toned_down_and_says_so(self, tmp_path: Path, transfer: int) -> None:
        """Black stays black, the white of paper is bright, and the brightest light is white."""
        paper = {16: 0.58, 18: 0.75}[transfer]
        grey = Image.new("RGB", (300, 200))
        grey.paste((round(255 * paper),) * 3, (100, 0, 200, 200))
        grey.paste((255,) * 3, (200, 0, 300, 200))
        picture = with_chunks(saved(grey, "PNG"), chunk(b"cICP", bytes((9, transfer, 0, 1))))
        loaded = await load(tmp_path, a_png=picture)
        assert loaded.warnings == (
            "a.png is an HDR picture: its bright parts are toned down, as in an ordinary picture.",
        )
        shown = [colour(sent(loaded)[1], x, 100)[1] for x in (50, 150, 250)]
        assert shown == pytest.approx([0, 232, 255], abs=5)

    async def test_an_hdr_profile_is_toned_down_too(self, tmp_path: Path) -> None:
        """Taken at its word, it makes the white of paper nearly black."""
        srgb = pictures.srgb_profile()
        count = struct.unpack_from(">I", srgb, 128)[0]
        body = srgb[: 132 + 12 * count]
        tags = [struct.unpack_from(">4sII", srgb, 132 + 12 * number) for number in range(count)]
        rows = b"".join(struct.pack(">4sII", name, start + 12, size) for name, start, size in tags)
        rows += struct.pack(">4sII", b"cicp", len(srgb) + 12, 12)
        profile = srgb[:128] + struct.pack(">I", count + 1) + rows + srgb[len(body) :] + b"cicp\0\0\0\0\x09\x10\0\x01"
        profile = struct.pack(">I", len(profile)) + profile[4:]
        grey = Image.new("RGB", (300, 200), (148, 148, 148))
        loaded = await load(tmp_path, a_png=saved(grey, "PNG", icc_profile=profile))
        assert loaded.warnings[0].startswith("a.png is an HDR picture: ")
        assert colour(sent(loaded)[1], 150, 100) == pytest.approx((232,) * 3, abs=5)

    async def test_unknown_numbers_are_said(self, tmp_path: Path) -> None:
        picture = with_chunks(saved(scene(), "PNG"), chunk(b"cICP", bytes((99, 99, 0, 1))))
        loaded = await load(tmp_path, a_png=picture)
        assert loaded.warnings == ("a.png names colours that are unknown here: they may come out wrong.",)
        shows_the_scene(sent(loaded)[1])

    @needs_avif
    async def test_an_avif_obeys_its_numbers(self, tmp_path: Path) -> None:
        plain = saved(scene(), "AVIF", quality=95)
        shows_the_scene(sent(await load(tmp_path, a_avif=plain))[1], within=20)
        wide = await load(tmp_path, b_avif=pictures.with_nclx(plain, 9, 13))
        assert (wide.warnings, colour(sent(wide)[1], 100, 200)[0]) == ((), pytest.approx(249, abs=8))
        bright = await load(tmp_path, c_avif=pictures.with_nclx(plain, 9, 16))
        assert bright.warnings[0].startswith("c.avif is an HDR picture: ")

    async def test_a_heic_obeys_its_numbers(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
        heif.register_heif_opener()
        wide = saved(scene(), "HEIF", quality=95, color_primaries=9, transfer_characteristics=13)
        wide = wide if b"colrnclx" not in wide else pictures.with_nclx(wide, 9, 13)
        assert colour(sent(await load(tmp_path, a_heic=wide))[1], 100, 200)[0] == pytest.approx(249, abs=8)
        bright = await load(tmp_path, b_heic=pictures.with_nclx(wide, 9, 18))
        assert bright.warnings[0].startswith("b.heic is an HDR picture: ")


class TestSeveralPictures:
    """Where there is a choice, the answer says what was chosen."""

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            ("TIFF", "has 2 pages: only the first is sent."),
            ("GIF", "is animated: only its first frame is sent."),
            ("PNG", "is animated: only its first frame is sent."),
            ("WEBP", "is animated: only its first frame is sent."),
            ("MPO", "holds 2 pictures: only the first is sent."),
            pytest.param("AVIF", "is animated: only its first frame is sent.", marks=needs_avif),
        ],
    )
    async def test_the_first_is_sent_and_the_answer_says_so(self, tmp_path: Path, kind: str, said: str) -> None:
        picture = saved(scene(), kind, save_all=True, append_images=[scene().rotate(180)])
        loaded = await load(tmp_path, a_png=picture)
        assert loaded.warnings == (f"a.png {said}",)
        shows_the_scene(sent(loaded)[1], within=25)

    async def test_one_picture_is_no_choice(self, tmp_path: Path) -> None:
        for kind in ("TIFF", "GIF", "PNG", "WEBP", "MPO"):
            assert (await load(tmp_path, a_png=saved(scene(), kind))).warnings == ()

    async def test_a_heic_of_several_pictures_says_so(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
        heif.register_heif_opener()
        picture = saved(scene(), "HEIF", save_all=True, append_images=[scene().rotate(180)], primary_index=1)
        loaded = await load(tmp_path, a_heic=picture)
        assert loaded.warnings == ("a.heic holds 2 pictures: only its main one is sent.",)
        assert colour(sent(loaded)[1], 20, 20) == pytest.approx(BLUE, abs=25)

    async def test_thumbnails_and_maps_of_brightness_are_no_choice(self, tmp_path: Path) -> None:
        """Phones put them beside most of their pictures."""
        pages = [tiff_page(160, 128, (8, 8, 8), 2, 61440), [*tiff_page(80, 64, (8, 8, 8), 2, 15360), (254, 4, [1])]]
        two = tiff_of(*pages, pixels=scene(160, 128).tobytes())
        assert (await load(tmp_path, a_tif=two)).warnings == ()
        gain = saved(scene(160, 120, "L"), "JPEG", xmp=b'<rdf hdrgm:Version="1.0"/>')
        phone = saved(scene(), "MPO", save_all=True, append_images=[decoded(gain)])
        at = phone.rindex(b"\xff\xd8")
        mapped = phone[: at + 2] + b"\xff\xe1\0\x18" + b'hdrgm:Version="1.0"\0\0\0' + phone[at + 2 :]
        loaded = await load(tmp_path, b_jpg=mapped)
        assert loaded.warnings == ()
        shows_the_scene(sent(loaded)[1])

    async def test_a_motion_photo_is_sent_without_its_video_and_says_so(self, tmp_path: Path) -> None:
        picture = saved(scene(), "JPEG", exif=private_exif()) + pictures.video_head()
        loaded = await load(tmp_path, a_jpg=picture)
        assert loaded.warnings == ("a.jpg is a motion photo: only its still picture is sent.",)
        content, shown = sent(loaded)
        assert b"ftyp" not in content
        shows_the_scene(shown)

    @needs_avif
    async def test_a_motion_photo_in_boxes_says_so_too(self, tmp_path: Path) -> None:
        video = pictures.video_head()
        picture = saved(scene(), "AVIF", quality=95) + struct.pack(">I4s", 8 + len(video), b"mpvd") + video
        loaded = await load(tmp_path, a_avif=picture)
        assert loaded.warnings == ("a.avif is a motion photo: only its still picture is sent.",)
        shows_the_scene(sent(loaded)[1], within=20)

    @needs_avif
    async def test_an_avif_is_set_upright(self, tmp_path: Path) -> None:
        turned = saved(scene().transpose(Image.Transpose.ROTATE_90), "AVIF", quality=95, exif=private_exif(6))
        shows_the_scene(sent(await load(tmp_path, a_avif=turned))[1], within=20)


class TestCutShort:
    """A JPEG without its end is shown by every viewer."""

    @pytest.mark.parametrize("bytes_missing", [1, 2])
    @pytest.mark.parametrize("progressive", [False, True])
    async def test_without_its_last_bytes_nothing_is_lost(
        self, tmp_path: Path, bytes_missing: int, progressive: bool
    ) -> None:
        whole = saved(scene(), "JPEG", progressive=progressive)
        loaded = await load(tmp_path, a_jpg=whole[:-bytes_missing])
        assert loaded.warnings == ()
        assert sent(loaded)[0] == whole

    async def test_zeros_where_a_download_stopped_are_no_picture(self, tmp_path: Path) -> None:
        whole = saved(scene(), "JPEG")
        assert sent(await load(tmp_path, a_jpg=whole[:-2] + bytes(5000)))[0] == whole

    @pytest.mark.parametrize("upright", [True, False])
    async def test_what_is_lost_of_the_last_rows_is_left_out_and_said(self, tmp_path: Path, upright: bool) -> None:
        picture = noise(640, 480)
        exif = {} if upright else {"exif": private_exif(6)}
        loaded = await load(tmp_path, a_jpg=saved(picture, "JPEG", quality=95, **exif)[:-3000])
        (warning,) = loaded.warnings
        lost = int(warning.removeprefix("a.jpg ends too early: its last ").partition(" ")[0])
        assert warning.endswith(f"{lost} of 480 rows are left out.")
        assert 1 <= lost <= 24
        _, shown = sent(loaded)
        assert shown.size == ((640, 480 - lost) if upright else (480 - lost, 640))
        edge = shown.crop((0, 480 - lost - 1, 640, 480 - lost)) if upright else shown.crop((0, 0, 1, 640))
        assert all(most - least > 100 for least, most in edge.convert("RGB").getextrema())  # type: ignore[misc]

    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.85])
    async def test_more_than_a_little_is_refused(self, tmp_path: Path, progressive: bool, part: float) -> None:
        whole = saved(noise(640, 480), "JPEG", quality=90, progressive=progressive)
        with pytest.raises(Refused) as refused:
            await load(tmp_path, a_jpg=whole[: int(len(whole) * part)])
        assert str(refused.value) == (
            f"{tmp_path / 'a.jpg'} is a JPEG picture that is cut off: a part of it is missing. "
            "Ask the user to download or copy it again. Nothing was sent."
        )

    async def test_a_progressive_one_that_lacks_a_whole_scan_is_refused(self, tmp_path: Path) -> None:
        """It shows, but blurred."""
        whole = saved(noise(640, 480), "JPEG", progressive=True)
        last = whole.rindex(b"\xff\xda")
        with pytest.raises(Refused, match="is a JPEG picture that is cut off"):
            await load(tmp_path, a_jpg=whole[:last])

    async def test_a_png_without_its_end_mark_is_mended(self, tmp_path: Path) -> None:
        whole = saved(scene(), "PNG")
        for missing in (1, 4, 12, 14):
            shows_the_scene(sent(await load(tmp_path, a_png=whole[:-missing]))[1])


async def test_the_thumbnails_beside_a_video_show_the_same_colours(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed: there are no previews")
    large = grey16(3000, 200)
    odd = [saved(large, "PNG"), saved(scene(), "PNG", icc_profile=pictures.grey_profile())]
    odd.append(saved(scene(mode="CMYK"), "JPEG", quality=95))
    loaded = [await load(tmp_path, a_png=picture) for picture in odd]
    await Previews(tmp_path / "cache").remember("job", [[sent(one)[0] for one in loaded]])
    kept = [decoded(file.read_bytes()) for file in sorted((tmp_path / "cache").iterdir())]
    assert len(kept) == 3
    assert kept[0].convert("L").getextrema() == pytest.approx((0, 255), abs=8)
    assert colour(kept[1], 200, 150) == pytest.approx(BLUE, abs=20)
    assert colour(kept[2], 200, 150) == pytest.approx(BLUE, abs=20)
