"""The router's error table: every reason, its HTTP status, and the envelope they come in."""

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

STATUS_OF = {
    reason: status
    for status, reasons in {
        400: (
            "INVALID_REQUEST_BODY",
            "IMAGE_FILE_EXCEEDS_MAX_SIZE",
            "INVALID_IMAGE_FORMAT",
            "IMAGE_EXCEEDS_MAX_RESOLUTION",
            "INVALID_IMAGE_SIZE",
            "ILLEGAL_PROMPT",
            "ILLEGAL_IMAGE_CONTENT",
            "INVALID_AUDIO_FILE",
            "IMAGE_NO_FACE_DETECTED",
            "INVALID_CUSTOM_OUTPUT_PATH",
            "MISSING_API_KEY",
            "BILLING_BALANCE_NOT_ENOUGH",
        ),
        401: ("FAILED_TO_AUTH",),
        403: (
            "INVALID_API_KEY",
            "NOT_ENOUGH_BALANCE",
            "BILLING_AUTH_FAILED",
            "API_NOT_ALLOWED",
            "FEATURE_NOT_ALLOWED",
            "NEED_REAL_NAME_VERIFY",
            "ACCESS_DENY",
        ),
        404: ("TASK_NOT_FOUND", "API_NOT_FOUND", "MODEL_NOT_FOUND"),
        429: ("RATE_LIMIT_EXCEEDED", "TOKEN_LIMIT_EXCEEDED"),
        500: ("BILLING_FAILED", "CREATE_TASK_FAILED", "GET_RESULT_FAILED", "TASK_FAILED"),
        503: ("SERVICE_NOT_AVAILABLE",),
    }.items()
    for reason in reasons
}


class Refusal(Exception):
    """The router says no. For a refused body, `details` is repeated in `metadata.details`."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(details or reason)
        self.reason = reason
        self.details = details

    def response(self, headers: dict[str, str] | None = None) -> "Response":
        from starlette.responses import JSONResponse

        status = STATUS_OF[self.reason]
        text = self.details or self.reason.replace("_", " ").lower()
        body = {
            "code": status,
            "reason": self.reason,
            "message": f"{text} trace_id: {uuid.uuid4().hex}",
            "metadata": {"details": self.details} if self.details and status == 400 else {},
        }
        return JSONResponse(body, status_code=status, headers=headers)
