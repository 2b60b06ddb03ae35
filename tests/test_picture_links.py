"""Addresses that can be no picture are refused before anything is paid, with the picture's own where there is one."""

from urllib.parse import urlsplit

import pytest

from refvideo_mcp.errors import Refused
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images
from refvideo_mcp.images.url_check import page_at
from refvideo_mcp.schemas import ReferenceVideoRequest

pytestmark = pytest.mark.anyio


async def load(url: str, *, router_is_local: bool = False) -> str:
    request = ReferenceVideoRequest.model_validate({"prompt": "@1 waves", "subjects": [{"images": [url]}]})
    loaded = await Images(Consent(), router_is_local=router_is_local).load(request)
    (image,) = loaded.request.subjects[0].images
    return image


@pytest.mark.parametrize("router_is_local", [False, True])
@pytest.mark.parametrize(
    ("url", "what", "instead"),
    [
        (
            "https://drive.google.com/file/d/1AbC-d_9/view?usp=sharing",
            "a Google Drive page",
            "https://drive.google.com/uc?export=download&id=1AbC-d_9",
        ),
        (
            "https://drive.google.com/file/u/0/d/1AbC/edit",
            "a Google Drive page",
            "https://drive.google.com/uc?export=download&id=1AbC",
        ),
        (
            "https://drive.google.com/open?id=1AbC",
            "a Google Drive page",
            "https://drive.google.com/uc?export=download&id=1AbC",
        ),
        ("https://drive.google.com/drive/folders/1AbC", "a Google Drive page", None),
        ("https://docs.google.com/document/d/1AbC/edit", "a Google Docs page", None),
        ("https://photos.app.goo.gl/AbC", "a Google Photos page", None),
        ("https://photos.google.com/share/AbC?key=s3cret", "a Google Photos page", None),
        (
            "https://www.google.com/imgres?imgurl=https%3A%2F%2Fa.example%2Ffox.jpg&tbnid=x",
            "a search result",
            "https://a.example/fox.jpg",
        ),
        (
            "https://www.dropbox.com/scl/fi/x1/fox.png?rlkey=s3cret&dl=0",
            "a Dropbox page",
            "the same address with raw=1 for dl=0",
        ),
        ("https://www.dropbox.com/s/x1/fox.png", "a Dropbox page", "the same address with raw=1 for dl=0"),
        ("https://dropbox.com/sh/x1/y?dl=0", "a Dropbox page", None),
        ("https://1drv.ms/i/s!AbC", "a OneDrive page", None),
        ("https://onedrive.live.com/?id=1&cid=2", "a OneDrive page", None),
        (
            "https://acme-my.sharepoint.com/:i:/g/personal/x?e=s3cret",
            "a SharePoint page",
            "the same address with download=1 added",
        ),
        ("https://share.icloud.com/photos/0AbC", "an iCloud page", None),
        ("https://www.icloud.com/iclouddrive/0AbC#fox.png", "an iCloud page", None),
        ("https://imgur.com/AbC12", "an Imgur page", "https://i.imgur.com/AbC12.jpg"),
        ("https://imgur.com/a/AbC12", "an Imgur page", None),
        ("https://imgur.com/gallery/fox-AbC12", "an Imgur page", None),
        (
            "https://github.com/me/zoo/blob/main/pics/fox.png",
            "a GitHub page",
            "https://raw.githubusercontent.com/me/zoo/main/pics/fox.png",
        ),
        ("https://github.com/me/zoo/tree/main/pics", "a GitHub page", None),
        ("https://github.com/me/zoo", "a GitHub page", None),
        ("https://gist.github.com/me/0a1b", "a GitHub page", None),
        (
            "https://gitlab.com/me/sub/zoo/-/blob/main/fox.png?ref_type=heads",
            "a GitLab page",
            "https://gitlab.com/me/sub/zoo/-/raw/main/fox.png",
        ),
        (
            "https://huggingface.co/datasets/me/zoo/blob/main/fox.png",
            "a Hugging Face page",
            "https://huggingface.co/datasets/me/zoo/resolve/main/fox.png",
        ),
        (
            "https://en.wikipedia.org/wiki/File:Red_fox.jpg",
            "a Wikimedia page",
            "https://commons.wikimedia.org/wiki/Special:FilePath/Red_fox.jpg",
        ),
        ("https://unsplash.com/photos/a-fox-AbC", "a page of a photo site", None),
        ("https://www.flickr.com/photos/me/123", "a page of a photo site", None),
        ("https://www.instagram.com/p/AbC/", "a page of a social network", None),
        ("https://x.com/me/status/1/photo/1", "a page of a social network", None),
        ("https://youtu.be/AbC", "a video", None),
        ("https://we.tl/t-AbC", "a page for downloads", None),
        ("https://a.example/fox.html", "a web page", None),
        ("https://a.example/fox.MP4?token=s3cret", "a video", None),
        ("https://a.example/fox%2Emov", "a video", None),
        ("https://a.example/fox.zip", "an archive", None),
        ("https://a.example/fox.pdf#page=2", "a document", None),
        ("https://a.example/fox.svg", "a vector drawing", None),
        ("https://a.example/fox.psd", "a Photoshop file", None),
        ("https://a.example/fox.mp3", "a sound", None),
    ],
)
async def test_an_address_that_can_be_no_picture_is_refused(
    url: str, what: str, instead: str | None, router_is_local: bool
) -> None:
    with pytest.raises(Refused) as caught:
        await load(url, router_is_local=router_is_local)
    assert str(caught.value) == (
        f"The address in `subjects[0].images[0]` leads to {what}, not to a picture. "
        f"Use {instead or 'the address of the picture itself'}, or a local path. Nothing was sent."
    )
    assert "s3cret" not in str(caught.value)
    if instead and instead.startswith("https:"):
        assert await load(instead) == instead


@pytest.mark.parametrize(
    "url",
    [
        "https://drive.google.com/uc?export=download&id=1AbC",
        "https://drive.google.com/thumbnail?id=1AbC&sz=w1000",
        "https://lh3.googleusercontent.com/pw/AbC=w1000",
        "https://www.dropbox.com/scl/fi/x1/fox.png?rlkey=s3cret&raw=1",
        "https://www.dropbox.com/s/x1/fox.png?dl=1",
        "https://dl.dropboxusercontent.com/s/x1/fox.png",
        "https://acme.sharepoint.com/x/fox.png?download=1",
        "https://i.imgur.com/AbC12.png",
        "https://imgur.com/AbC12.png",
        "https://github.com/me/zoo/blob/main/fox.png?raw=true",
        "https://github.com/me/zoo/raw/main/fox.png",
        "https://github.com/user-attachments/assets/0a1b",
        "https://github.com/me/zoo/releases/download/v1/fox.png",
        "https://upload.wikimedia.org/wikipedia/commons/1/16/Red_fox.jpg",
        "https://unsplash.com/photos/AbC/download?force=true",
        "https://images.unsplash.com/photo-1?w=800",
        "https://pbs.twimg.com/media/AbC?format=jpg&name=large",
        "https://netflix.com/fox.png",
        "https://a.example/fox",
        "https://a.example/picture.php?id=3",
        "https://a.example/fox.html.png",
        "https://a.example/clip.mp4?x-oss-process=video/snapshot,t_1000,f_jpg",
        "https://a.example/drawing.svg?fm=png",
        "https://a.example/x.com/fox",
        "https://a.b",
    ],
)
async def test_an_address_that_may_be_a_picture_is_passed_on_as_it_is(url: str) -> None:
    assert await load(url) == url


def test_a_long_address_is_judged_at_once() -> None:
    for start in ("https://drive.google.com/", "https://github.com/a/b/blob/", "https://a.wikipedia.org/wiki/File:"):
        page_at(urlsplit(start + "a/" * 100_000))
        page_at(urlsplit(start + "?&" * 100_000))
