"""Addresses that the router fetches itself: passed on unfetched, unless it could not or should not fetch them.

What leads to a page about a picture, or to no picture at all, is known by its host and path alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from refvideo_mcp.errors import InvalidCall, ask_user_for, clean
from refvideo_mcp.network import is_public

__all__ = ["WITHOUT_QUERY", "Page", "check_url", "page_at"]

# How an address ends whose query was not kept.
WITHOUT_QUERY = "?\u2026"
_ADVICE = "Use a public https URL or a local path. Nothing was sent."


@dataclass(frozen=True)
class Page:
    """`what` an address leads to, and how the picture itself is addressed, where that is known."""

    what: str
    instead: str | None = None


_Found = re.Match[str]
# Host, path and query of a page → what it is, and the picture's own address.
_PAGES: list[tuple[str, str, Callable[[_Found, SplitResult], str | None]]] = [
    ("a Google Drive page", r"drive\.google\.com/(?!uc\b|thumbnail\b).*", lambda _, url: _drive(url)),
    ("a Google Docs page", r"(docs|sites)\.google\.com/(?!uc\b).*", lambda *_: None),
    ("a Google Photos page", r"(photos\.google\.com|photos\.app\.goo\.gl)/.*", lambda *_: None),
    ("a search result", r"(www\.)?google\.[a-z.]+/(imgres|url|search).*", lambda _, url: _named(url, "imgurl")),
    (
        "a Dropbox page",
        r"(www\.)?dropbox\.com/(?!.*[?&](raw|dl)=1).*",
        lambda found, _: None if "/sh/" in found[0] or "/fo/" in found[0] else "the same address with raw=1 for dl=0",
    ),
    ("a OneDrive page", r"(onedrive\.live\.com/(?!download).*|1drv\.ms/.*)", lambda *_: None),
    (
        "a SharePoint page",
        r"[\w-]+\.sharepoint\.com/(?!.*[?&]download=1).*",
        lambda *_: "the same address with download=1 added",
    ),
    ("an iCloud page", r"(www\.|share\.)?icloud\.com(\.cn)?/.*", lambda *_: None),
    (
        "an Imgur page",
        r"(www\.|m\.)?imgur\.com/(?!.*\.(?:jpe?g|png|webp|gif)$)(?:(\w+)/?$)?.*",
        lambda found, _: f"https://i.imgur.com/{found[2]}.jpg" if found[2] else None,
    ),
    (
        "a GitHub page",
        r"github\.com/([^/]+/[^/]+)/(?:blob|tree)/(?!.*[?&]raw=)([^?]+\.\w+)?.*",
        lambda found, _: f"https://raw.githubusercontent.com/{found[1]}/{found[2]}" if found[2] else None,
    ),
    ("a GitHub page", r"(gist\.github\.com/(?!.*/raw\b).*|github\.com/[^/?]+(/[^/?]+)?/?)", lambda *_: None),
    (
        "a GitLab page",
        r"(gitlab\.com/.+)/-/blob/([^?]+).*",
        lambda found, _: f"https://{found[1]}/-/raw/{found[2]}",
    ),
    (
        "a Hugging Face page",
        r"(huggingface\.co/.+)/blob/([^?]+).*",
        lambda found, _: f"https://{found[1]}/resolve/{found[2]}",
    ),
    (
        "a Wikimedia page",
        r"[\w.-]+\.(?:wikipedia|wikimedia)\.org/wiki/(?:File|Datei|Fichier|Image):([^?]+).*",
        lambda found, _: f"https://commons.wikimedia.org/wiki/Special:FilePath/{found[1]}",
    ),
    (
        "a page of a photo site",
        r"(www\.)?(unsplash\.com/(?!.*/download)|(pexels|pixabay)\.com/.*photos?/|flickr\.com/photos/|flic\.kr/p/).*",
        lambda *_: None,
    ),
    (
        "a page of a social network",
        r"((www|m|mobile|web|old)\.)?"
        r"(instagram|facebook|tiktok|twitter|x|pinterest|reddit|youtube|threads|linkedin|tumblr)\.(com|net|[a-z]{2})/.*",
        lambda *_: None,
    ),
    ("a video", r"youtu\.be/.*", lambda *_: None),
    ("a page for downloads", r"((www\.)?(wetransfer\.com|we\.tl|mega\.nz)|app\.box\.com)/.*", lambda *_: None),
]
_ENDINGS = {
    "a web page": "htm html xhtml mhtml",
    "a video": "mp4 m4v mov webm mkv avi mpg mpeg wmv flv",
    "a sound": "mp3 wav m4a ogg flac aac",
    "an archive": "zip rar 7z tar gz tgz bz2 xz",
    "a document": "pdf doc docx ppt pptx xls xlsx odt odp txt md rtf json csv xml",
    "a vector drawing": "svg svgz ai eps",
    "a Photoshop file": "psd psb",
    "a program": "exe msi dmg apk js css",
}
_BY_ENDING = {f".{ending}": what for what, endings in _ENDINGS.items() for ending in endings.split()}
# A query that makes a picture of something else, as image services take it.
_MADE = re.compile(r"jpe?g|png|webp|snapshot|thumb|image|\bfm=|\bf_", re.IGNORECASE)


def check_url(url: str, where: str, *, any_host: bool) -> None:
    """That the router can fetch a picture from an http(s) address. `any_host`: the router is on this machine itself.

    Raises:
        InvalidCall: malformed, with a password, into a private network, or to something that is no picture.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _malformed(where) from None
    # "[v1.x]" is an address of a kind that does not exist yet, "%eth0" one of this machine's network cards;
    # urlsplit drops line breaks and tabs silently; the router may not.
    if not host or "%" in host or ("[" in parts.netloc and ":" not in host) or re.search(r"[\s\x00-\x20\x7f\\]", url):
        raise _malformed(where)
    if url.endswith(WITHOUT_QUERY):
        raise InvalidCall(
            f"The address in {where} was remembered without what came after the question mark, which may be a secret.",
            ask_user_for("the whole address, or for a file. Nothing was sent."),
        )
    if "@" in parts.netloc:
        raise InvalidCall(f"The address in {where} carries a user name or password.", _ADVICE)
    try:
        can_fetch = is_public(host) or any_host
    except ValueError:
        raise _malformed(where) from None
    if not can_fetch:
        raise InvalidCall(
            f"The address in {where} leads to {clean(host, 80)}, which is no public host: nobody else can fetch it.",
            _ADVICE,
        )
    if page := page_at(parts):
        instead = f"Use {clean(page.instead)}" if page.instead else "Use the address of the picture itself"
        raise InvalidCall(
            f"The address in {where} leads to {page.what}, not to a picture.",
            f"{instead}, or a local path. Nothing was sent.",
        )


def page_at(url: SplitResult) -> Page | None:
    """What `url` leads to, if that can be no picture."""
    host = (url.hostname or "").lower().removesuffix(".")
    query = f"?{url.query}" if url.query else ""
    address = f"{host}{url.path or '/'}{query}"
    for what, pattern, instead in _PAGES:
        if found := re.fullmatch(pattern, address):
            return Page(what, instead(found, url))
    what = _BY_ENDING.get(PurePosixPath(unquote(url.path)).suffix.lower(), "")
    return Page(what) if what and not _MADE.search(url.query) else None


def _drive(url: SplitResult) -> str | None:
    found = re.match(r"/file/(?:u/\d+/)?d/([\w-]+)", url.path)
    name = found[1] if found else (parse_qs(url.query).get("id") or [""])[0]
    return f"https://drive.google.com/uc?export=download&id={quote(name)}" if name else None


def _named(url: SplitResult, field: str) -> str | None:
    (address, *_) = parse_qs(url.query).get(field) or [""]
    return clean(address, 200) if address.startswith("https://") and "?" not in address else None


def _malformed(where: str) -> InvalidCall:
    return InvalidCall(f"The address in {where} is malformed.", _ADVICE)
