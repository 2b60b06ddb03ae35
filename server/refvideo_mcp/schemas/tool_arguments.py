"""The arguments of the tools."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from refvideo_mcp.schemas import coercion
from refvideo_mcp.schemas.request import NamedSubject, ReferenceVideoRequest, Request, SpecModel, Subject, Text
from refvideo_mcp.schemas.router_answers import JobState

__all__ = [
    "AddPicturesCall",
    "CalledSubject",
    "ChosenPicture",
    "GenerateCall",
    "ListCall",
    "PieceCall",
    "ResultCall",
    "is_handle",
]


def _key(value: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{16,128}", value):
        raise ValueError("must be 16-128 visible characters without spaces; leave it out unless you retry by machine")
    return value


def is_handle(text: str) -> bool:
    """Whether a job can be asked for by this text."""
    return re.fullmatch(r"[\x21-\x7e]{1,255}", text) is not None


def _handle(value: str) -> str:
    value = value.strip().strip("\"'`").removesuffix("\u2026").removesuffix("...")
    if not is_handle(value):
        raise ValueError("must be the job's id or key as it was given; the list of jobs has those that were lost")
    return value


class CalledSubject(NamedSubject):
    """A subject as callers name it. What it is to be remembered by is between them and us."""

    remember: Annotated[Literal["yes", "replace"], BeforeValidator(coercion.yes)] | None = Field(
        None, description="Keep its pictures for later calls, if the user asks."
    )
    about: Text | None = Field(None, description="What it is, to remember.")

    @classmethod
    def _is_given(cls, name: str, value: Any) -> bool:
        match name:
            case "images":
                return value not in (None, "", [])
            case "remember":
                return value is not False and coercion.word(value) not in (None, "", "false", "no", "none", "null")
            case "about":
                return not (isinstance(value, str) and coercion.is_nothing(value)) and value is not None
        return super()._is_given(name, value)


class GenerateCall(Request[CalledSubject]):
    """The request, and what is between the caller and us."""

    save_to: Annotated[Text | None, BeforeValidator(coercion.place)] = Field(
        None, description="Folder or .mp4 path, only if the user asked."
    )
    idempotency_key: Annotated[str, AfterValidator(_key)] | None = Field(
        None, description="Leave out; for engines that retry: 16-128 characters."
    )

    @model_validator(mode="after")
    def _can_be_remembered(self) -> Self:
        for place, subject in enumerate(self.subjects, 1):
            if subject.remember and subject.id == str(place):
                raise ValueError(f"`subjects[{place - 1}]` needs an id to be remembered by, such as fox")
        return self

    def request(self, subjects: Sequence[Subject]) -> ReferenceVideoRequest:
        """What the router is asked for, with the subjects as they are sent."""
        given = {
            name: getattr(self, name) for name in self.model_fields_set & ReferenceVideoRequest.model_fields.keys()
        }
        return ReferenceVideoRequest.model_construct(**given | {"subjects": list(subjects)})


class ResultCall(SpecModel):
    task_id: Annotated[str, BeforeValidator(coercion.text), AfterValidator(_handle)] = Field(
        description="The job's, or its idempotency_key."
    )
    wait_seconds: Annotated[int, coercion.at_most(300), BeforeValidator(coercion.seconds)] = Field(
        45, ge=0, le=300, description="0: just look."
    )
    save_to: Annotated[Text | None, BeforeValidator(coercion.place)] = Field(
        None, description="As when it was started, also later."
    )


class ListCall(SpecModel):
    query: Annotated[str, BeforeValidator(coercion.text)] | None = Field(
        None, description="Words of prompt, ids or file name."
    )
    state: Annotated[Literal["open", JobState], BeforeValidator(coercion.word)] | None = Field(
        None, description="open: all unfinished."
    )
    task_id: Annotated[str, BeforeValidator(coercion.text), AfterValidator(_handle)] | None = Field(
        None, description="Only this, with its recipe."
    )
    before: Annotated[str, BeforeValidator(coercion.text), AfterValidator(coercion.unwrapped)] | None = Field(
        None, description="Only older: a time or task_id."
    )
    limit: Annotated[int, coercion.at_most(50), BeforeValidator(coercion.number)] = Field(
        10, ge=1, le=50, description="How many."
    )


class ChosenPicture(SpecModel):
    name: str = Field(description="Of its file.")
    size: int = Field(ge=1, description="In bytes.")


class AddPicturesCall(SpecModel):
    upload: Annotated[str, AfterValidator(_handle)] = Field(description="The page's own name for these pictures.")
    subject: Annotated[Text, BeforeValidator(coercion.bare_id)] = Field(description="Its id in the prompt.")
    pictures: list[ChosenPicture] = Field(min_length=1, max_length=3, description="All of them.")
    offset: int = Field(0, ge=0, le=2**31, description="Of the piece's first byte, in all of them.")
    data: str = Field(max_length=2**19, description="The piece, in base64.")


class PieceCall(SpecModel):
    task_id: Annotated[str, AfterValidator(_handle)] = Field(description="A finished job.")
    offset: int = Field(0, ge=0, le=2**31, description="Of the piece's first byte.")
