"""What may help after a failed job, as far as its reason tells."""

import re

from refvideo_mcp.errors import Advice
from refvideo_mcp.router.reasons import BALANCE_ADVICE, NO_REMEDY, REASONS, TRANSIENT

__all__ = ["remedy"]

_NEW_JOB = Advice(" A new try is a new paid job: ask the user.", " A new try is a new paid job.")
_LATER = "This passes by itself, mostly within minutes." + _NEW_JOB
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
    (r"quota|throttl|ratelimit|tokenlimit|overload|toomanyrequests|busy", _LATER),
    (r"internal(service|server)?(failure|error)|servicenotavailable|unavailable|timeout|timedout", _LATER),
    (r"(try|retry)(it)?(again)?later|(billing|createtask|getresult)failed", _LATER),
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
