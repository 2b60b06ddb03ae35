"""What is advised after a failed job: what its reason supports, and no more."""

from pathlib import Path

import pytest

from fake_router import FakeRouter, process, result, said, submit, told
from refvideo_mcp.router.reasons import REASONS
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

PROMPT = "The content rules refused the prompt: reword it, then try again."
TAKE = "The check of the finished video refused it: another take may pass. A new try is a new paid job: ask the user."
LATER = "This passes by itself, mostly within minutes. A new try is a new paid job: ask the user."
BALANCE = "Ask the user to top up the account at api.myrouter.ai. (Some gateways report a rate limit this way.)"
NOTHING = "api.myrouter.ai gives no remedy. It may pass by itself; a new try is a new job: ask the user."
BILLED = "Whether it was billed: see the console of api.myrouter.ai."


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("ILLEGAL_PROMPT", PROMPT),
        ("illegal_prompt: it names a brand", PROMPT),
        ("TaskPromptPolicyViolation", PROMPT),
        ("vidu: task_prompt_policy_violation", PROMPT),
        ("AuditSubmitIllegal", PROMPT),
        ("CreationPolicyViolation", TAKE),
        ("the output did not pass an audit", TAKE),
        ("ImageDownloadFailure", "A picture could not be loaded: use a file or another address, then try again."),
        ("ImageFormatInvalid", "Use PNG, JPEG or WebP pictures and try again."),
        ("FieldInvalid.Seed", "Correct the argument it names and try again."),
        ("IMAGE_NO_FACE_DETECTED", "Use a picture in which a face is plain to see, then try again."),
        ("image_no_face_detected", "Use a picture in which a face is plain to see, then try again."),
        ("CreditInsufficient", BALANCE),
        ("NOT_ENOUGH_BALANCE", BALANCE),
        ("account balance is not enough", BALANCE),
        ("UserQuotaExceeded", LATER),
        ("SystemThrottling", LATER),
        ("InternalServiceFailure", LATER),
        ("internal error, please retry later", LATER),
        ("TASK_TIMEOUT", LATER),
        ("the worker timed out", LATER),
        ("RATE_LIMIT_EXCEEDED", LATER),
        ("TOKEN_LIMIT_EXCEEDED", LATER),
        ("SERVICE_NOT_AVAILABLE", LATER),
        ("TASK_FAILED", NOTHING),
        ("TASK_FAILED: internal error", LATER),
        ("TASK_NOT_FOUND", NOTHING),
        ("the subject left the picture", NOTHING),
        ("", NOTHING),
    ],
)
async def test_a_failed_job_is_told_with_what_its_reason_supports(
    clock: VirtualClock, tmp_path: Path, reason: str, advice: str
) -> None:
    router = FakeRouter(clock, takes=5, fails={"task-1": reason or " "})
    async with process(router, tmp_path / "ledger.db") as client:
        await submit(client)
        answer = await result(client)
    assert answer.is_error
    assert said(answer).endswith(f'". {advice} {BILLED}')
    assert told(answer)["next_step"] == f"{advice} {BILLED}"


@pytest.mark.parametrize("reason", [*REASONS, "SystemThrottling: " + "very " * 60 + "busy"])
async def test_a_failure_fits_into_sixty_words(clock: VirtualClock, tmp_path: Path, reason: str) -> None:
    router = FakeRouter(clock, takes=5, fails={"task-1": reason})
    async with process(router, tmp_path / "ledger.db") as client:
        await submit(client)
        answer = await result(client)
    assert len(said(answer).split()) <= 60
