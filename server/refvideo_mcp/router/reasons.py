"""The router's reasons: what to do about each, what each says of a request, and the words of who renders behind it."""

import re

from refvideo_mcp.errors import Advice, ask_user

__all__ = [
    "BY_STATUS",
    "FINDABLE_ADVICE",
    "MAY_HAVE_CREATED_TASK",
    "REASONS",
    "TRANSIENT",
    "UNCERTAIN_ADVICE",
    "UNREAD_PICTURES",
    "WANTS_LINKS",
    "remedy",
]

_KEY = ask_user(
    "check MYROUTER_API_KEY: {host} refused it. A key belongs to one gateway, which MYROUTER_BASE_URL must name."
)
BALANCE_ADVICE = ask_user("top up the account at {host}. (Some gateways report a rate limit this way.)")
_ACCESS = ask_user("enable this model for the account in the console of {host}.")
_GATEWAY = ask_user("check MYROUTER_BASE_URL: {host} does not offer VIDU Q2 reference to video under this address.")
UNCERTAIN_ADVICE = Advice(
    "Do not submit again for this video. Tell the user, and ask them to look for the job in the console of {host} "
    "before anything else is made.",
    "Do not submit it again. Look for the job in the console of {host} before anything else is made.",
)
FINDABLE_ADVICE = (
    "Do not submit again for this video. "
    + Advice('Call get_task_result with task_id "{handle}"', "Run refvideo-mcp result {handle}")
    + ": it asks {host} for the job. "
    + Advice("Tell the user, who can", "You can")
    + " look for it in the console of {host}."
)
NO_REMEDY = "{host} gives no remedy. It may pass by itself; a new try is a new job" + Advice(": ask the user.", ".")
_LATER = "Wait a minute, then try once more."

REASONS: dict[str, Advice | str] = {
    "INVALID_REQUEST_BODY": "Correct the argument it names and try again.",
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": "Use a smaller picture file and try again.",
    "INVALID_IMAGE_FORMAT": "Use PNG, JPEG or WebP pictures and try again.",
    "IMAGE_EXCEEDS_MAX_RESOLUTION": "Scale the picture down and try again.",
    "INVALID_IMAGE_SIZE": "Use a picture of at least 128x128 pixels and between 1:4 and 4:1, then try again.",
    "ILLEGAL_PROMPT": "The content rules refused the prompt: reword it, then try again.",
    "ILLEGAL_IMAGE_CONTENT": "The content rules refused a picture: use another one, then try again.",
    "INVALID_AUDIO_FILE": "Leave voice_id out or choose another voice, then try again.",
    "IMAGE_NO_FACE_DETECTED": "Use a picture in which a face is plain to see, then try again.",
    "INVALID_CUSTOM_OUTPUT_PATH": ask_user("check the output path that is set for the account at {host}."),
    "MISSING_API_KEY": _KEY,
    "BILLING_BALANCE_NOT_ENOUGH": BALANCE_ADVICE,
    "FAILED_TO_AUTH": _KEY,
    "INVALID_API_KEY": _KEY,
    "NOT_ENOUGH_BALANCE": BALANCE_ADVICE,
    "BILLING_AUTH_FAILED": ask_user("check billing for the account at {host}."),
    "API_NOT_ALLOWED": _ACCESS,
    "FEATURE_NOT_ALLOWED": _ACCESS,
    "NEED_REAL_NAME_VERIFY": Advice(
        "Ask the user to verify their identity in the console of {host}.",
        "Verify your identity in the console of {host}.",
    ),
    "ACCESS_DENY": _ACCESS,
    "TASK_NOT_FOUND": "Check the task_id; a job is visible only to the key that submitted it.",
    "API_NOT_FOUND": _GATEWAY,
    "MODEL_NOT_FOUND": _GATEWAY,
    "RATE_LIMIT_EXCEEDED": _LATER,
    "TOKEN_LIMIT_EXCEEDED": _LATER,
    "BILLING_FAILED": "{host} could not bill the account. " + _LATER,
    "CREATE_TASK_FAILED": "{host} could not create the job. " + _LATER,
    "GET_RESULT_FAILED": "{host} could not read the job. " + _LATER,
    "SERVICE_NOT_AVAILABLE": "The service is down for now. " + _LATER,
    "TASK_FAILED": NO_REMEDY,
}

# The reason whose advice serves an error that has only an HTTP status. 408, 409 and 425 are not here: such a request
# may have been accepted.
BY_STATUS: dict[int, str] = {
    400: "INVALID_REQUEST_BODY",
    401: "FAILED_TO_AUTH",
    403: "ACCESS_DENY",
    404: "API_NOT_FOUND",
    413: "IMAGE_FILE_EXCEEDS_MAX_SIZE",
    415: "INVALID_REQUEST_BODY",
    422: "INVALID_REQUEST_BODY",
    429: "RATE_LIMIT_EXCEEDED",
}

# Said of pictures that were not read; who finds fault with their shape or content has read them.
UNREAD_PICTURES = frozenset({"INVALID_IMAGE_FORMAT", "IMAGE_FILE_EXCEEDS_MAX_SIZE"})
# That a gateway takes data URIs is not documented.
WANTS_LINKS = (
    "If the pictures are good, this gateway may want public URLs: with the setting "
    "REFVIDEO_MEDIA_STORE=s3://bucket/prefix it gets links to the user's own bucket."
)

# A submission answered with one of these may have left a task behind.
MAY_HAVE_CREATED_TASK = frozenset({"TASK_FAILED", "GET_RESULT_FAILED"})

# A read answered with one of these may succeed a minute later; with any other reason it will not.
TRANSIENT = frozenset(
    {
        "RATE_LIMIT_EXCEEDED",
        "TOKEN_LIMIT_EXCEEDED",
        "BILLING_FAILED",
        "CREATE_TASK_FAILED",
        "GET_RESULT_FAILED",
        "SERVICE_NOT_AVAILABLE",
    }
)

_NEW_JOB = Advice(" A new try is a new paid job: ask the user.", " A new try is a new paid job.")
_PASSES = "This passes by itself, mostly within minutes." + _NEW_JOB
_ANOTHER_TAKE = "The check of the finished video refused it: another take may pass." + _NEW_JOB
_BILLED = " Whether it was billed: see the console of {host}."

# Of a job that failed at the router, these say nothing that could be mended.
_SILENT = {"TASK_FAILED", "TASK_NOT_FOUND"}
# The code words of Vidu, which renders, and of gateways, in small letters and without what is between the words.
# The first that is in the reason counts.
_WORDS: list[tuple[str, Advice | str]] = [
    (r"creationpolicyviolation|output\w{0,20}(check|policy|audit|moderat|violat)", _ANOTHER_TAKE),
    (r"promptpolicyviolation|auditsubmitillegal|illegalprompt", REASONS["ILLEGAL_PROMPT"]),
    (r"imagedownloadfail", "A picture could not be loaded: use a file or another address, then try again."),
    (r"imageformatinvalid", REASONS["INVALID_IMAGE_FORMAT"]),
    (r"fieldinvalid", REASONS["INVALID_REQUEST_BODY"]),
    (r"creditinsufficient|insufficient(credit|balance|funds)|balance(isnot|not|in)(enough|sufficient)", BALANCE_ADVICE),
    (r"quota|throttl|ratelimit|tokenlimit|overload|toomanyrequests|busy", _PASSES),
    (r"internal(service|server)?(failure|error)|servicenotavailable|unavailable|timeout|timedout", _PASSES),
    (r"(try|retry)(it)?(again)?later|(billing|createtask|getresult)failed", _PASSES),
]


def remedy(reason: str) -> Advice:
    """What to do about a job that failed for `reason`, with `{host}` where the gateway's name belongs."""
    return _of(reason) + _BILLED


def _of(reason: str) -> Advice:
    documented = next((word for word in re.findall(r"[A-Z_]{8,}", reason.upper()) if word in REASONS), None)
    if documented is not None and documented not in TRANSIENT | _SILENT:
        return _as_advice(REASONS[documented])
    squashed = re.sub(r"[\W_]+", "", reason.lower())
    return _as_advice(next((advice for words, advice in _WORDS if re.search(words, squashed)), NO_REMEDY))


def _as_advice(text: Advice | str) -> Advice:
    return text if isinstance(text, Advice) else Advice(text, text)
