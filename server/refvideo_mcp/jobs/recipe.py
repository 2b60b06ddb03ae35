"""What a job was made of, as the call that would make it again."""

import hashlib
from typing import Any

from refvideo_mcp.images import DATA_URI, WITHOUT_QUERY
from refvideo_mcp.ledger import Job

__all__ = ["CAST", "lacking", "recipe_of"]

# What stands for a picture that cannot be named again; given back, each is refused before anything is bought.
CAST = "cast:"  # before the name that a saved subject's pictures were taken by
LOCAL_FILE, NOT_KEPT = "a local file", "a picture of an older job"


def recipe_of(job: Job, *, paths: bool = True) -> dict[str, Any] | None:
    """The arguments of generate_reference_video, with the seed that was used; None for another program's job.

    Without `paths` it names no file of this machine.
    """
    if job.request is None:
        return None
    subjects = [_subject(job, subject, paths=paths) for subject in job.request["subjects"]]
    return job.request | {"subjects": subjects} | ({} if job.seed is None else {"seed": job.seed})


def lacking(recipe: dict[str, Any]) -> list[str]:
    """The ids of its subjects whose pictures have to be given anew."""
    return [subject["id"] for subject in recipe["subjects"] if any(map(_is_lacking, subject.get("images", ())))]


def _subject(job: Job, subject: dict[str, Any], *, paths: bool) -> dict[str, Any]:
    images = [_source(job, image, paths=paths) for image in subject["images"]]
    if all(image.startswith(f"{CAST}{subject['id']}/") for image in images):
        return {name: value for name, value in subject.items() if name != "images"}  # its name is enough
    return subject | {"images": images}


def _is_lacking(image: str) -> bool:
    return image in (DATA_URI, LOCAL_FILE, NOT_KEPT) or image.startswith(CAST) or image.endswith(WITHOUT_QUERY)


def _source(job: Job, image: dict[str, Any], *, paths: bool) -> str:
    if url := image.get("url"):
        is_whole = hashlib.sha256(url.encode()).hexdigest() == image["sha256"]
        return str(url) if is_whole else f"{url}{WITHOUT_QUERY}"
    source = job.sources.get(image["sha256"], NOT_KEPT)
    is_path = source not in (DATA_URI, NOT_KEPT) and not source.startswith(CAST)
    return source if paths or not is_path else LOCAL_FILE
