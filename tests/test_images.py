"""Reference pictures, from what a call names to what the router gets."""

import base64
import json
import os
import stat
import sys
from pathlib import Path

import anyio
import pytest
from PIL import Image, features

import pictures
from pictures import SECRET, data_uri, decoded, noise, private_exif, private_text, saved, scene
from refvideo_mcp.errors import Refused
from refvideo_mcp.files import Consent, FolderNotAllowed
from refvideo_mcp.files.resolve import picture_path
from refvideo_mcp.images import Images, LoadedRequest
from refvideo_mcp.images.metadata import without_metadata
from refvideo_mcp.schemas import ReferenceVideoRequest

pytestmark = pytest.mark.anyio
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows writes paths in another way")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder for each test, with a project as working folder; the temporary folder is elsewhere."""
    home = tmp_path / "home"
    for folder in ("project", "tmp", "elsewhere", ".secret", "Pictures"):
        (home / folder).mkdir(parents=True)
    for name in list(os.environ):
        if name.startswith("XDG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setattr("tempfile.tempdir", str(home / "tmp"))
    monkeypatch.chdir(home / "project")
    return home


def order(*images: str) -> ReferenceVideoRequest:
    return ReferenceVideoRequest.model_validate({"prompt": "@1 waves", "subjects": [{"images": list(images)}]})


def images(*folders: Path, state: Path | None = None) -> Images:
    return Images(Consent(folders=folders, state=state))


def content(loaded: LoadedRequest, place: int = 0) -> tuple[str, bytes]:
    """The label and the bytes of a picture that will be sent."""
    uri = loaded.body()["subjects"][0]["images"][place]
    head, _, text = uri.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(text, validate=True)


async def test_a_picture_of_the_project_becomes_a_data_uri_byte_for_byte(home: Path) -> None:
    picture = saved(scene(), "PNG")
    (home / "project" / "hero.png").write_bytes(picture)
    loaded = await images().load(order("hero.png"))
    assert content(loaded) == ("image/png", picture)
    assert loaded.warnings == ()
    assert loaded.sent == (home / "project" / "hero.png",)


async def test_a_public_url_is_passed_on_and_nothing_is_sent_from_here() -> None:
    loaded = await images().load(order(" https://pictures.example/hero.png?sig=1%2F2 "))
    assert loaded.body()["subjects"][0]["images"] == ["https://pictures.example/hero.png?sig=1%2F2"]
    assert loaded.sent == ()


async def test_the_rest_of_the_request_stays_as_the_caller_gave_it(home: Path) -> None:
    """What was not given must stay out of the router's body."""
    (home / "project" / "hero.png").write_bytes(saved(scene(), "PNG"))
    request = ReferenceVideoRequest.model_validate(
        {"prompt": "@hero waves", "subjects": [{"id": "hero", "images": "hero.png", "voice_id": "v"}], "audio": True}
    )
    body = (await images().load(request)).body()
    del body["subjects"][0]["images"]
    assert body == {
        "prompt": "@hero waves",
        "subjects": [{"id": "hero", "voice_id": "v"}],
        "duration": 5,
        "audio": True,
    }
    assert request.subjects[0].images == ["hero.png"]


@posix_only
@pytest.mark.parametrize(
    "spelling",
    [
        "{home}/project/my hero.png",
        "~/project/my hero.png",
        "my hero.png",
        "./my hero.png\n",
        "../project/my hero.png",
        "file://{home}/project/my%20hero.png",
        "FILE://localhost{home}/project/my%20hero.png",
        "file:{home}/project/my hero.png",
        "file://~/project/my%20hero.png",
        "file://{home}/project/my%20hero.png?x=1#part",
        '"{home}/project/my hero.png"',
        " \u201c{home}/project/my hero.png\u201d ",
        "`my hero.png`",
        r"{home}/project/my\ hero.png",
        r"my\ hero.png",
        "@{home}/project/my hero.png",
        "@./my hero.png",
        '@"{home}/project/my hero.png"',
        "$HOME/project/my hero.png",
        "${{HOME}}/project/my hero.png",
        "\u202a{home}/project/my hero.png\u200b",
    ],
)
async def test_a_path_may_be_spelled_as_people_and_programs_spell_it(home: Path, spelling: str) -> None:
    (home / "project" / "my hero.png").write_bytes(saved(scene(), "PNG"))
    loaded = await images().load(order(spelling.format(home=home)))
    assert loaded.sent == (home / "project" / "my hero.png",)


@posix_only
@pytest.mark.parametrize("name", ['"quoted".png', r"back\ slashed.png", "@home.png", "$HOME.png"])
async def test_what_belongs_to_a_name_stays_in_it(home: Path, name: str) -> None:
    (home / "project" / name).write_bytes(saved(scene(), "PNG"))
    for spelling in (name, str(home / "project" / name)):
        assert (await images().load(order(spelling))).sent == (home / "project" / name,)


@posix_only
async def test_a_quoted_address_is_an_address() -> None:
    loaded = await images().load(order('"https://pictures.example/hero.png"'))
    assert loaded.body()["subjects"][0]["images"] == ["https://pictures.example/hero.png"]


@pytest.mark.parametrize(
    "path",
    [
        "/mnt/user-data/uploads/hero.png",
        "/mnt/data/hero.png",
        "sandbox:/mnt/data/hero.png",
        "attachment://hero.png",
        "blob:https://chat.example/0f5c",
        "file:///mnt/data/hero.png",
    ],
)
async def test_a_picture_that_only_the_chat_has_is_told(home: Path, path: str) -> None:
    with pytest.raises(Refused, match=r"is in the chat, not on this machine\. Ask the user for the picture's path"):
        await images().load(order(path))
    assert await images().consent.pictures_to_ask_about(order(path)) == []


@posix_only
async def test_a_name_without_its_folder_is_offered_where_it_is(home: Path) -> None:
    """A guess: that folder's picture may be another one of the same name."""
    (home / "Downloads").mkdir(exist_ok=True)
    picture = home / "Downloads" / "hero.png"
    picture.write_bytes(saved(scene(), "PNG"))
    for asked in ("hero.png", str(home / "project" / "hero.png")):
        with pytest.raises(Refused, match="There is no picture at") as caught:
            await images().load(order(asked))
        assert f"If {picture} is meant, give that path." in str(caught.value)


@posix_only
@pytest.mark.parametrize("folder", [".gemini-clipboard", ".claude/image-cache/0f5c", ".codex/attachments"])
async def test_a_clients_folder_for_pasted_pictures_is_asked_about(home: Path, folder: str) -> None:
    for around in (home / "project", home):
        pasted = around / folder / "1.png"
        pasted.parent.mkdir(parents=True)
        pasted.write_bytes(saved(scene(), "PNG"))
        door = images()
        assert await door.consent.pictures_to_ask_about(order(str(pasted))) == [pasted.parent]
        with pytest.raises(FolderNotAllowed):
            await door.load(order(str(pasted)))
        await door.consent.allow_pictures([pasted.parent])
        assert (await door.load(order(str(pasted)))).sent == (pasted,)
        with pytest.raises(Refused, match="is hidden"):
            await door.load(order(str(around / ".ssh" / "1.png")))


@posix_only
async def test_a_placeholder_in_a_path_is_told() -> None:
    with pytest.raises(Refused) as caught:
        await images().load(order("${workspaceFolder}/hero.png"))
    assert str(caught.value) == (
        "${workspaceFolder}/hero.png holds ${workspaceFolder}, which nobody has filled in. "
        "Give the whole path. Nothing was sent."
    )


async def test_a_relative_path_starts_at_the_clients_roots_then_at_the_working_folder(home: Path) -> None:
    for folder in ("root", "project"):
        (home / folder).mkdir(exist_ok=True)
        (home / folder / f"{folder}.png").write_bytes(saved(scene(), "PNG"))
        (home / folder / "both.png").write_bytes(saved(scene(), "PNG"))
    loaded = await images().load(order("root.png", "project.png", "both.png"), roots=[home / "root"])
    assert [path.relative_to(home).as_posix() for path in loaded.sent] == [
        "root/root.png",
        "project/project.png",
        "root/both.png",
    ]


async def test_a_screenshots_special_space_may_be_written_as_an_ordinary_one(home: Path) -> None:
    """macOS writes U+202F before AM and PM, which no model repeats."""
    file = home / "project" / "Screenshot at 3.04.05\u202fPM.png"
    file.write_bytes(saved(scene(), "PNG"))
    assert (await images().load(order("Screenshot at 3.04.05 PM.png"))).sent == (file,)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (r"C:\Users\me\hero.png", r"C:\Users\me\hero.png"),
        ("file:///C:/Users/me/my%20hero.png", "C:/Users/me/my hero.png"),
        ("file://C:/Users/hero.png", "C:/Users/hero.png"),
        (r"\\nas\photos\hero.png", r"\\nas\photos\hero.png"),
        ('"C:\\Users\\me\\hero.png"', r"C:\Users\me\hero.png"),
        ("\u202aC:\\Users\\me\\hero.png", r"C:\Users\me\hero.png"),
        (r"\\?\C:\Users\me\hero.png", r"C:\Users\me\hero.png"),
        (r"\\?\UNC\nas\photos\hero.png", r"\\nas\photos\hero.png"),
        ("/c/Users/me/hero.png", "c:/Users/me/hero.png"),
        ("/mnt/c/Users/me/hero.png", "c:/Users/me/hero.png"),
        (r"%USERPROFILE%\Pictures\hero.png", r"~\Pictures\hero.png"),
        (r"@C:\Users\me\hero.png", r"C:\Users\me\hero.png"),
        ("file://nas/photos/hero.png", "//nas/photos/hero.png"),
    ],
)
async def test_windows_paths_are_understood_on_windows(text: str, meant: str) -> None:
    assert picture_path(text, "`x`", windows=True) == meant


@pytest.mark.parametrize(
    "text",
    [r"\\.\PhysicalDrive0", r"\\?\GLOBALROOT\hero.png", "NUL", r"C:\pictures\con.png", "hero.png:stream", "COM1"],
)
async def test_windows_devices_and_streams_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="The path in `x` names a device or a stream, not a picture file"):
        picture_path(text, "`x`", windows=True)


class TestFolders:
    """Pictures are sent only from where the work is, or from where the user said."""

    @pytest.mark.parametrize(
        "folder", ["project", "tmp", "named", "root", "project/deep/er", pytest.param("Pictures", marks=posix_only)]
    )
    async def test_pictures_come_from_the_work_and_the_usual_places(self, home: Path, folder: str) -> None:
        file = home / folder / "hero.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(saved(scene(), "PNG"))
        loaded = await images(home / "named").load(order(str(file)), roots=[home / "root"])
        assert loaded.sent == (file,)

    async def test_another_folder_needs_a_yes_once_and_it_is_remembered(self, home: Path) -> None:
        for name in ("hero.png", "back.png"):
            (home / "elsewhere" / name).write_bytes(saved(scene(), "PNG"))
        request = order(str(home / "elsewhere" / "hero.png"), "../elsewhere/back.png", "https://a.b/c.png")
        room = images(state=home / "state")

        assert await room.consent.pictures_to_ask_about(request) == [home / "elsewhere"]
        with pytest.raises(FolderNotAllowed) as refused:
            await room.load(request)
        assert refused.value.folder == home / "elsewhere"
        assert str(refused.value) == (
            f"{home}/elsewhere/hero.png is outside the folders that pictures may be sent from. "
            f"Ask the user to add {home}/elsewhere to REFVIDEO_IMAGE_DIRS, "
            f"or put the picture into {home}/project or {home}/Pictures. Nothing was sent."
        ).replace("/", os.sep)

        await room.consent.allow_pictures([home / "elsewhere"])
        later = images(state=home / "state")
        assert await later.consent.pictures_to_ask_about(request) == []
        assert len((await later.load(request)).sent) == 2

    @posix_only
    async def test_what_the_user_allowed_is_for_the_users_eyes_only(self, home: Path) -> None:
        room = images(state=home / "state")
        await room.consent.allow_pictures([home / "elsewhere"])
        await room.consent.allow_pictures([home / "more"])
        file = home / "state" / "picture-folders.json"
        assert json.loads(file.read_text()) == {"folders": [str(home / "elsewhere"), str(home / "more")]}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [path.name for path in file.parent.iterdir()] == ["picture-folders.json"]

    @pytest.mark.parametrize("damage", ["", "[]", '{"folders": 3}', '{"folders": [3, "relative"]}', "[" * 9999])
    async def test_a_damaged_file_of_grants_allows_nothing(self, home: Path, damage: str) -> None:
        (home / "picture-folders.json").write_text(damage)
        room = images(state=home)
        assert await room.consent.pictures_to_ask_about(order(str(home / "elsewhere" / "hero.png"))) == [
            home / "elsewhere"
        ]

    async def test_a_yes_that_cannot_be_stored_holds_for_this_process(self, home: Path) -> None:
        (home / "file").write_text("in the way")
        room = images(state=home / "file")
        await room.consent.allow_pictures([home / "elsewhere"])
        assert await room.consent.pictures_to_ask_about(order(str(home / "elsewhere" / "hero.png"))) == []

    @pytest.mark.parametrize("place", ["home", "around", "top"])
    async def test_a_server_started_in_a_broad_folder_does_not_open_it_up(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        """Claude Desktop starts servers in /, others in the home folder; some report that as the client's root."""
        broad = {"home": home, "around": home.parent, "top": Path(home.anchor)}[place]
        monkeypatch.chdir(broad)
        (home / "hero.png").write_bytes(saved(scene(), "PNG"))
        with pytest.raises(FolderNotAllowed) as refused:
            await images().load(order(str(home / "hero.png")), roots=[broad])
        assert refused.value.folder == home
        with pytest.raises(Refused, match=r"hero\.png is a relative path, and this server works in no project folder"):
            await images().load(order("hero.png"), roots=[broad])

    async def test_a_yes_for_the_home_folder_is_none_for_the_folders_in_it(self, home: Path) -> None:
        for file in (home / "hero.png", home / "elsewhere" / "hero.png"):
            file.write_bytes(saved(scene(), "PNG"))
        room = images()
        await room.consent.allow_pictures([home])
        assert len((await room.load(order(str(home / "hero.png")))).sent) == 1
        assert await room.consent.pictures_to_ask_about(order(str(home / "elsewhere" / "hero.png"))) == [
            home / "elsewhere"
        ]

    async def test_a_setting_that_names_the_home_folder_opens_its_own_files_alone(self, home: Path) -> None:
        """A server that was told to read the home folder is not meant to send what lies in the tax folder."""
        for file in (home / "hero.png", home / "elsewhere" / "hero.png"):
            file.write_bytes(saved(scene(), "PNG"))
        room = images(home)
        assert len((await room.load(order(str(home / "hero.png")))).sent) == 1
        assert await room.consent.pictures_to_ask_about(order(str(home / "elsewhere" / "hero.png"))) == [
            home / "elsewhere"
        ]

    @posix_only
    @pytest.mark.parametrize(
        "broad", ["/", "/etc", "/home", "/home/somebody", "/Users/somebody", "/mnt/c", "/mnt/c/Users/Me"]
    )
    async def test_a_setting_that_names_another_broad_folder_opens_nothing_below_it(self, broad: str) -> None:
        picture = Path(broad, "photos", "hero.png")
        assert await images(Path(broad)).consent.pictures_to_ask_about(order(str(picture))) == [picture.parent]

    @posix_only
    @pytest.mark.parametrize(
        "picture", ["{home}/hero.png", "{home}/../hero.png", "/hero.png", "/etc/hero.png", "/mnt/c/hero.png"]
    )
    async def test_no_advice_opens_a_home_folder_a_disk_or_the_system(self, home: Path, picture: str) -> None:
        """Whoever follows it sends, from then on and unasked, whatever lies below."""
        (home / "Downloads").mkdir()
        with pytest.raises(FolderNotAllowed) as refused:
            await images().load(order(picture.format(home=home)))
        assert str(refused.value.advice) == (
            f"Ask the user to put the picture into {home}/project or {home}/Pictures or {home}/Downloads. "
            "Nothing was sent."
        )

    @pytest.mark.parametrize("there", ["Pictures", "Documents"])
    async def test_only_a_folder_that_exists_is_offered_or_else_pictures(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, there: str
    ) -> None:
        monkeypatch.chdir(home)
        (home / "Pictures").rename(home / there)
        with pytest.raises(FolderNotAllowed) as refused:
            await images().load(order(str(home / "hero.png")))
        assert str(refused.value.advice) == f"Ask the user to put the picture into {home / there}. Nothing was sent."
        (home / there).rmdir()
        with pytest.raises(FolderNotAllowed) as refused:
            await images().load(order(str(home / "hero.png")))
        assert (
            str(refused.value.advice) == f"Ask the user to put the picture into {home / 'Pictures'}. Nothing was sent."
        )

    async def test_over_http_no_path_is_read_and_the_stdio_server_is_named(self, home: Path) -> None:
        (home / "project" / "hero.png").write_bytes(saved(scene(), "PNG"))
        room = Images(Consent(folders=[home], local=False))
        for path in ("hero.png", "file:///etc/hero.png", "C:\\hero.png", "~/hero.png"):
            assert await room.consent.pictures_to_ask_about(order(path)) == []
            with pytest.raises(Refused) as refused:
                await room.load(order(path))
            assert str(refused.value) == (
                f"This server is reached over HTTP and reads no local files, such as {path}: use an https URL or a "
                "data URI, or run refvideo-mcp as a stdio server where the picture is."
            )
        assert content(await room.load(order(data_uri(saved(scene(), "PNG")))))[0] == "image/png"

    async def test_a_wrong_name_brings_up_to_three_near_ones(self, home: Path) -> None:
        for name in ("hero-front.png", "hero-back.png", "hero-side.png", "hero-top.png", ".hero.png", "other.txt"):
            (home / "project" / name).touch()
        with pytest.raises(Refused) as refused:
            await images().load(order("Hero-Bak.png"))
        happened, _, advice = str(refused.value).partition(" In that folder: ")
        assert happened == f"There is no picture at {home / 'project' / 'Hero-Bak.png'}."
        assert advice.startswith("hero-back.png, ")
        assert advice.count("hero") == 3
        assert advice.endswith(". Ask the user for the right path. Nothing was sent.")

    async def test_a_missing_picture_without_near_names_is_just_missing(self, home: Path) -> None:
        with pytest.raises(Refused) as refused:
            await images().load(order("gone/hero.png"))
        assert str(refused.value) == (
            f"There is no picture at {home / 'project' / 'gone' / 'hero.png'}. "
            "Ask the user for the right path. Nothing was sent."
        )


class TestPictures:
    """What becomes of the pixels, and of everything else in the file."""

    @pytest.mark.parametrize(
        ("kind", "picture"),
        [
            ("png", saved(scene(), "PNG")),
            ("png", saved(scene(mode="RGBA"), "PNG")),
            ("png", saved(scene(mode="P"), "PNG", dpi=(72, 72))),
            ("png", saved(scene(), "PNG", icc_profile=pictures.srgb_profile())),
            ("jpeg", saved(scene(), "JPEG")),
            ("jpeg", saved(scene(mode="L"), "JPEG", progressive=True)),
            ("jpeg", saved(noise(300, 200), "JPEG", restart_marker_blocks=2, icc_profile=pictures.srgb_profile())),
            ("webp", saved(scene(), "WEBP")),
            ("webp", saved(scene(mode="RGBA"), "WEBP", lossless=True, icc_profile=pictures.srgb_profile())),
        ],
    )
    async def test_an_upright_bare_picture_goes_through_byte_for_byte(self, kind: str, picture: bytes) -> None:
        assert content(await images().load(order(data_uri(picture)))) == (f"image/{kind}", picture)

    @pytest.mark.parametrize(
        ("kind", "picture"),
        [
            ("jpeg", saved(scene(), "JPEG", exif=private_exif())),
            ("jpeg", saved(scene(), "JPEG", comment=SECRET)),
            ("jpeg", saved(scene(), "JPEG", xmp=f"<x>{SECRET}</x>".encode())),
            ("jpeg", saved(scene(), "JPEG", icc_profile=pictures.swapped_profile())),
            ("jpeg", saved(scene(), "JPEG") + SECRET.encode()),
            ("jpeg", pictures.zip_behind(saved(scene(), "JPEG"))),
            ("jpeg", saved(scene(), "MPO", save_all=True, append_images=[scene()])),
            ("png", saved(scene(), "PNG", exif=private_exif())),
            ("png", saved(scene(), "PNG", pnginfo=private_text())),
            ("png", saved(scene(), "PNG", icc_profile=pictures.swapped_profile())),
            ("png", pictures.zip_behind(saved(scene(), "PNG"))),
            ("png", saved(scene(), "PNG", save_all=True, append_images=[scene(mode="L").convert("RGB")])),
            ("webp", saved(scene(), "WEBP", exif=private_exif())),
            ("webp", saved(scene(), "WEBP", xmp=f"<x>{SECRET}</x>")),
            ("webp", pictures.zip_behind(saved(scene(), "WEBP"))),
            ("webp", saved(scene(), "WEBP", save_all=True, append_images=[noise(320, 240)])),
        ],
    )
    async def test_what_is_not_pixels_stays_here(self, kind: str, picture: bytes) -> None:
        """GPS, comments, a second picture, an archive behind the picture."""
        label, sent = content(await images().load(order(data_uri(picture))))
        assert label == f"image/{kind}"
        assert sent != picture
        assert without_metadata(sent, kind, keep_profile=False) == sent
        assert SECRET.encode() not in sent
        assert decoded(sent).size == (320, 240)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
    async def test_a_picture_that_lies_on_its_side_is_set_upright(self, kind: str, orientation: int) -> None:
        turned = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
        picture = saved(scene().transpose(turned), kind, exif=private_exif(orientation).tobytes())
        _, sent = content(await images().load(order(data_uri(picture))))
        upright = decoded(sent).convert("RGB")
        assert upright.size == (320, 240)
        assert max(upright.getpixel((20, 20))) == upright.getpixel((20, 20))[1]  # type: ignore[arg-type,index]
        assert not decoded(sent).getexif()

    @pytest.mark.parametrize(
        ("picture", "kind", "mode"),
        [
            (saved(scene(mode="P"), "GIF"), "png", "RGB"),
            (saved(scene(), "BMP"), "png", "RGB"),
            (saved(scene(), "TIFF", compression="tiff_lzw"), "png", "RGB"),
            (saved(scene(mode="RGBA"), "TIFF"), "png", "RGBA"),
            (saved(scene(mode="CMYK"), "TIFF"), "png", "RGB"),
            (saved(scene(mode="CMYK"), "JPEG"), "jpeg", "RGB"),
            (saved(scene(mode="L").convert("I;16").point(lambda v: v * 257), "TIFF"), "png", "L"),
            (saved(scene(mode="L").convert("F"), "TIFF"), "png", "L"),
            (saved(scene(mode="RGBA"), "WEBP", exif=private_exif()), "webp", "RGBA"),
            (saved(scene(mode="RGBA"), "PNG", pnginfo=private_text()), "png", "RGBA"),
            (saved(scene(mode="LA"), "PNG", pnginfo=private_text()), "png", "LA"),
        ],
    )
    async def test_other_kinds_become_png_or_jpeg(self, picture: bytes, kind: str, mode: str) -> None:
        label, sent = content(await images().load(order(data_uri(picture))))
        image = decoded(sent)
        assert (label, image.mode, image.size) == (f"image/{kind}", mode, (320, 240))
        expected = scene().convert("L").getpixel((40, 200))
        assert image.convert("L").getpixel((40, 200)) == pytest.approx(expected, abs=12)

    async def test_black_and_white_stays_black_and_white(self) -> None:
        fax = scene(mode="L").point(lambda value: 255 * (value > 70), "1")
        _, sent = content(await images().load(order(data_uri(saved(fax, "TIFF", compression="group4")))))
        image = decoded(sent)
        assert (image.mode, image.getpixel((40, 200)), image.getpixel((300, 200))) == ("L", 255, 0)

    @pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
    async def test_an_avif_becomes_a_jpeg_and_keeps_alpha_as_png(self) -> None:
        plain, clear = saved(scene(), "AVIF"), saved(scene(mode="RGBA"), "AVIF")
        loaded = await images().load(order(data_uri(plain), data_uri(clear)))
        assert [content(loaded, place)[0] for place in (0, 1)] == ["image/jpeg", "image/png"]
        assert decoded(content(loaded, 1)[1]).getchannel("A").getextrema() == pytest.approx((60, 255), abs=9)

    async def test_a_heic_picture_needs_an_extra_and_the_error_names_it(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        (home / "project" / "IMG_1.HEIC").write_bytes(pictures.heic())
        with pytest.raises(Refused) as refused:
            await images().load(order("IMG_1.HEIC"))
        assert str(refused.value) == (
            f"{home / 'project' / 'IMG_1.HEIC'} is a HEIC picture, which this server cannot read yet. "
            f"Ask the user to run {sys.executable} -m pip install pillow-heif, or use a JPEG or PNG copy. "
            "Nothing was sent."
        )

    async def test_a_heic_picture_becomes_an_upright_bare_jpeg(self) -> None:
        heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
        turned = scene().transpose(Image.Transpose.ROTATE_90)
        heif.register_heif_opener()
        picture = saved(turned, "HEIF", exif=private_exif(6).tobytes())
        label, sent = content(await images().load(order(data_uri(picture))))
        assert (label, decoded(sent).size) == ("image/jpeg", (320, 240))
        assert without_metadata(sent, "jpeg", keep_profile=False) == sent

    async def test_colours_are_converted_to_srgb(self) -> None:
        """Whoever took the numbers for sRGB would see other colours than the owner of the picture."""
        for kind in ("PNG", "JPEG", "WEBP"):
            picture = saved(scene(), kind, icc_profile=pictures.swapped_profile())
            _, sent = content(await images().load(order(data_uri(picture))))
            assert decoded(sent).convert("RGB").getpixel((40, 200)) == pytest.approx((30, 200, 30), abs=12)

    async def test_a_broken_profile_or_broken_metadata_is_dropped(self) -> None:
        for picture in (
            saved(scene(), "JPEG", icc_profile=b"no profile at all"),
            saved(scene(), "JPEG", exif=b"Exif\0\0II*\0garbage"),
            saved(scene(), "PNG", icc_profile=b"x" * 200),
        ):
            _, sent = content(await images().load(order(data_uri(picture))))
            assert decoded(sent).size == (320, 240)

    async def test_only_the_first_frame_of_an_animation_is_sent(self, home: Path) -> None:
        (home / "project" / "loop.gif").write_bytes(
            saved(scene(), "GIF", save_all=True, append_images=[noise(320, 240)])
        )
        loaded = await images().load(order("loop.gif"))
        assert loaded.warnings == ("loop.gif is animated: only its first frame is sent.",)
        assert decoded(content(loaded)[1]).convert("RGB").getpixel((40, 200)) == pytest.approx((200, 30, 30), abs=9)

    async def test_a_wrong_name_or_label_is_corrected(self, home: Path) -> None:
        picture = saved(scene(), "WEBP")
        (home / "project" / "hero.jpg").write_bytes(picture)
        loaded = await images().load(order("hero.jpg", data_uri(picture, "image/png"), data_uri(picture, "text/html")))
        assert [content(loaded, place) for place in range(3)] == [("image/webp", picture)] * 3

    async def test_small_and_long_pictures_are_sent_with_a_warning(self, home: Path) -> None:
        for name, size in (("small.png", (127, 128)), ("long.png", (1001, 250)), ("fine.png", (512, 128))):
            (home / "project" / name).write_bytes(saved(scene(*size), "PNG"))
        loaded = await images().load(order("small.png", "long.png", "fine.png"))
        assert loaded.warnings == (
            "small.png is 127x128, smaller than 128x128: it may be refused.",
            "long.png is 1001x250, beyond 1:4 to 4:1: it may be refused.",
        )

    @pytest.mark.parametrize(
        "spelling",
        [
            "DATA:image/png;charset=utf-8;BASE64,{b64}",
            "data:;base64,{bare}",
            "data:image/png;base64,{lines}",
            "data:image/png;base64,{url}",
            "data:image/png,{percent}",
        ],
    )
    async def test_a_data_uri_may_be_spelled_loosely(self, spelling: str) -> None:
        picture = saved(noise(130, 130), "PNG")
        text = base64.b64encode(picture).decode()
        uri = spelling.format(
            b64=text,
            bare=text.rstrip("="),
            lines="\n ".join(text[place : place + 76] for place in range(0, len(text), 76)),
            url=base64.urlsafe_b64encode(picture).decode(),
            percent="".join(f"%{byte:02X}" for byte in picture),
        )
        assert content(await images().load(order(uri))) == ("image/png", picture)


class TestSize:
    """The router takes 20 MB for everything together."""

    @staticmethod
    def body_size(loaded: LoadedRequest) -> int:
        return len(json.dumps(loaded.body()))

    async def test_the_largest_pictures_give_way_first(self, home: Path) -> None:
        for name, picture in (
            ("large.png", saved(noise(1500, 1400), "PNG", compress_level=0)),
            ("larger.png", saved(noise(2100, 2300), "PNG", compress_level=0)),
            ("small.png", saved(noise(300, 300), "PNG", compress_level=0)),
        ):
            (home / "project" / name).write_bytes(picture)
        loaded = await images().load(order("large.png", "small.png", "larger.png"))
        assert 10_000_000 < self.body_size(loaded) < 20_000_000
        assert [content(loaded, place)[0] for place in range(3)] == ["image/png", "image/png", "image/jpeg"]
        assert decoded(content(loaded, 0)[1]).size == (1500, 1400)
        assert loaded.warnings == ("larger.png was compressed more, to fit into 20 MB.",)

    async def test_many_large_pictures_are_scaled_but_stay_at_1024_pixels(self, home: Path) -> None:
        names = [f"{number}.png" for number in range(24)]
        picture = saved(noise(1500, 1200), "PNG", compress_level=0)
        for name in names:
            (home / "project" / name).write_bytes(picture)
        loaded = await images().load(order(*names))
        sizes = {decoded(content(loaded, place)[1]).size for place in range(24)}
        assert self.body_size(loaded) < 20_000_000
        assert 1024 <= min(max(size) for size in sizes) < 1500
        assert "0.png was scaled from 1500x1200 to " in loaded.warnings[0]

    async def test_the_same_picture_named_many_times_counts_each_time(self, home: Path) -> None:
        (home / "project" / "hero.png").write_bytes(saved(noise(1200, 1000), "PNG", compress_level=0))
        loaded = await images().load(order(*["hero.png"] * 9))
        assert self.body_size(loaded) < 20_000_000
        assert len({content(loaded, place) for place in range(9)}) == 1
        assert loaded.sent == (home / "project" / "hero.png",)

    async def test_alpha_survives_the_shrinking(self, home: Path) -> None:
        clear = noise(1500, 1400)
        clear.putalpha(Image.linear_gradient("L").resize(clear.size))
        (home / "project" / "clear.png").write_bytes(saved(clear, "PNG", compress_level=0))
        label, sent = content(await images().load(order(*["clear.png"] * 3)))
        assert label == "image/webp"
        assert decoded(sent).mode == "RGBA"

    async def test_what_does_not_fit_at_all_names_the_largest_picture(self, home: Path) -> None:
        (home / "project" / "hero.png").write_bytes(saved(noise(1024, 1024), "PNG", compress_level=0))
        with pytest.raises(Refused) as refused:
            await images().load(order(*["hero.png"] * 100))
        assert str(refused.value) == (
            "The pictures do not fit into the 20 MB of one request: hero.png, the largest, still has "
            "0.5 MB at 1024x1024. Use fewer pictures, or public https URLs. Nothing was sent."
        )

    async def test_words_count_too(self) -> None:
        request = ReferenceVideoRequest.model_validate(
            {"prompt": "@1" + "x" * 20_000_000, "subjects": [{"images": ["https://a.b/c.png"]}]}
        )
        with pytest.raises(Refused, match="The request has 20 MB without its pictures"):
            await images().load(request)

    async def test_the_same_pictures_give_the_same_request_again(self, home: Path) -> None:
        """The ledger knows an identical call by what is sent."""
        (home / "project" / "hero.jpg").write_bytes(saved(scene(), "JPEG", exif=private_exif(6)))
        first, second = [await images().load(order("hero.jpg")) for _ in range(2)]
        assert first == second

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak")
    async def test_the_memory_of_a_call_is_bounded_by_its_pictures(self, home: Path) -> None:
        """At most 4 times the files, and two pictures in hand, each with its copy; alone in a process, to be sure."""
        large = saved(noise(2100, 2000), "PNG", compress_level=0)
        turned = saved(Image.effect_noise((4000, 3000), 20).convert("RGB"), "JPEG", exif=private_exif(6).tobytes())
        files = {"small.png": saved(scene(), "PNG"), "1.png": large, "2.jpg": turned, "3.png": large, "4.png": large}
        for name, picture in files.items():
            (home / "project" / name).write_bytes(picture)
        program = str(Path(__file__).with_name("memory_of_images.py"))
        paths = [str(home / "project" / name) for name in files]
        memory = json.loads((await anyio.run_process([sys.executable, program, *paths])).stdout)
        assert memory["grown"] < 4 * memory["encoded"] + 2 * sum(memory["decoded"][-2:])
