"""The request spec: what the router's VIDU Q2 reference-to-video endpoint takes.

The models are the one source for validation, for the body that is sent and for the tool's JSON Schema. They refuse what
the router's document forbids and what cannot work; `warnings_for` tells what may disappoint but is sent all the same.
"""

from collections import Counter
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from refvideo_mcp.errors import clean
from refvideo_mcp.schemas import coercion
from refvideo_mcp.schemas.mentions import is_mentioned, meant, unknown_mentions

__all__ = ["NamedSubject", "ReferenceVideoRequest", "Request", "SpecModel", "Subject", "Text", "warnings_for"]


def _filled(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("contains half a character (a lone surrogate): send it again as plain text") from None
    return value


Text = Annotated[str, AfterValidator(_filled), AfterValidator(_encodable)]
Flag = Annotated[bool, BeforeValidator(coercion.word)]


class SpecModel(BaseModel):
    """Arguments as agents send them: `null` means not given, and so do "", "null", and 0 where it is too little.

    The latter only for what may be left out: some proxies fill in every argument.

    Unknown names are refused.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _only_given(cls, raw: Any) -> Any:
        raw = coercion.from_json(raw) if isinstance(raw, str) else raw
        return {k: v for k, v in raw.items() if cls._is_given(k, v)} if isinstance(raw, dict) else raw

    @classmethod
    def _is_given(cls, name: str, value: Any) -> bool:
        field = cls.model_fields.get(name)
        if value is None or field is None or field.is_required():
            return value is not None
        if isinstance(value, str):
            return not coercion.is_nothing(value)
        is_zero = value == 0 and not isinstance(value, bool)
        return not (is_zero and any(getattr(rule, "ge", 0) > 0 for rule in field.metadata))


Pictures = Annotated[list[Text], BeforeValidator(coercion.as_list)]
_PICTURES = "1-3 pictures: local path, https URL or data URI. One pasted into the chat has no path: ask for it."


class NamedSubject(SpecModel):
    """One person or thing that the video keeps. Its pictures may be known by its id."""

    id: Annotated[Text, BeforeValidator(coercion.bare_id)] = Field(
        description="Its name in the prompt, without @: '1', 'hero'."
    )
    images: Pictures | None = Field(None, min_length=1, description=f"{_PICTURES} Left out: those kept for id.")
    voice_id: Annotated[str, AfterValidator(_encodable)] | None = Field(
        None, description="Needs audio: true; left out: chosen."
    )

    @classmethod
    def _is_given(cls, name: str, value: Any) -> bool:
        return value is not None  # the router's document has a meaning for an empty voice_id


class Subject(NamedSubject):
    """One whose pictures are all there."""

    images: Pictures = Field(min_length=1, description=_PICTURES)


AnySubject = TypeVar("AnySubject", bound=NamedSubject)


class Request(SpecModel, Generic[AnySubject]):
    """One job, with what a subject is left open."""

    prompt: Text = Field(
        description="Motion, scene, camera, style; at most 2000 characters. "
        "Name every subject as @id: '@1 hands @2 a cup, slow dolly in'."
    )
    subjects: Annotated[list[AnySubject], BeforeValidator(coercion.numbered)] = Field(
        min_length=1,
        description="One per person or thing, with all views of it. At most 7, with 7 pictures in all.",
    )
    duration: Annotated[int, BeforeValidator(coercion.seconds)] = Field(5, ge=1, le=10, description="Seconds.")
    resolution: Annotated[Literal["540p", "720p", "1080p"], BeforeValidator(coercion.resolution)] = Field(
        "720p", description="Higher costs more."
    )
    aspect_ratio: Annotated[str, AfterValidator(coercion.ratio)] | None = Field(
        None, description="16:9, 9:16, 1:1 or another."
    )
    movement_amplitude: Annotated[Literal["auto", "small", "medium", "high"], BeforeValidator(coercion.word)] | None = (
        Field(None, description="How much moves.")
    )
    seed: Annotated[int, BeforeValidator(coercion.number)] | None = Field(
        None, description="The same: a similar take; another: a new one."
    )
    audio: Flag = Field(False, description="Speech and sound.")
    bgm: Flag = Field(False, description="Background music.")
    watermark: Flag = Field(False, description="Visible watermark.")

    @model_validator(mode="after")
    def _can_work(self) -> Self:
        ids = [subject.id for subject in self.subjects]
        problems = []
        if repeated := [i for i, times in Counter(ids).items() if times > 1]:
            problems.append(
                f"`subjects` uses {_listed(repeated)} as id more than once; "
                "put all pictures of one subject into one entry"
            )
        for written, near in list(meant(self.prompt, ids).items())[:9]:
            problems.append(f"`prompt`: {_listed([written])} names no subject; write {_listed(near, '@')}")
        if missing := [m for m in unknown_mentions(self.prompt, ids) if m.isdigit()]:
            known = _listed(list(dict.fromkeys(ids)), "@")
            problems.append(f"`prompt`: {_listed(missing, '@')} names no subject; the subjects are {known}")
        if voiced := [subject.id for subject in self.subjects if subject.voice_id and not self.audio]:
            problems.append(
                f"`voice_id` of {_listed(voiced)} is heard only with sound: set `audio` to true, or leave it out"
            )
        if problems:
            raise ValueError(". ".join(problems))
        return self


class ReferenceVideoRequest(Request[Subject]):
    """One job for the router. Fields that the caller left out stay out of its body, except `duration`."""

    def body(self) -> dict[str, Any]:
        """The router's JSON body: what the caller gave, and always `duration`."""
        given: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        return given | {"duration": self.duration}


def _listed(names: list[str], sign: str = "") -> str:
    shown = ", ".join(f"`{sign}{clean(name, 40)}`" for name in names[:9])
    return f"{shown} and {len(names) - 9} more" if len(names) > 9 else shown


def warnings_for(request: ReferenceVideoRequest) -> list[str]:
    """Warnings for what is allowed but may disappoint, from Vidu's and sibling gateways' documents; the worst first."""
    images = sum(len(subject.images) for subject in request.subjects)
    ids = [subject.id for subject in request.subjects]
    unused = [subject_id for subject_id in ids if not is_mentioned(subject_id, request.prompt)]
    unknown = [name for name in unknown_mentions(request.prompt, ids) if not name.isdigit()]
    found = {
        f"The prompt names {_listed(unknown, '@')}, but no subject has that id.": bool(unknown),
        f"The prompt never names {_listed(unused, '@')}: a subject that is not named may not appear.": bool(unused),
        "More than 7 subjects: some may be ignored.": len(request.subjects) > 7,
        "More than 7 pictures in all: some may be ignored.": images > 7,
        "More than 3 pictures for one subject: some may be ignored.": any(
            len(subject.images) > 3 for subject in request.subjects
        ),
        "The prompt is longer than 2000 characters: its end may be ignored.": len(request.prompt) > 2000,
        "bgm has no effect at 9-10 seconds.": request.bgm and request.duration >= 9,
        "seed is outside 0-2147483647: it may be refused or ignored.": (
            request.seed is not None and not 0 <= request.seed <= 2147483647
        ),
    }
    return [sentence for sentence, applies in found.items() if applies]
