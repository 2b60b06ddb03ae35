"""`refvideo-mcp generate`: one job, from the pictures to the file."""

import argparse
import json
import sys

from refvideo_mcp.cli.exit_codes import DONE, INTERRUPTED
from refvideo_mcp.cli.options import add_json_option, add_spec_options, given
from refvideo_mcp.cli.outcome import print_error, print_job
from refvideo_mcp.cli.questions import ask_about_folders, ask_about_twin, ask_before_buying, from_here
from refvideo_mcp.cli.screen import Screen
from refvideo_mcp.cli.session import read_settings, with_jobs
from refvideo_mcp.cli.subjects import subjects_of
from refvideo_mcp.cli.waiting import STEPS_WIDTH, wait
from refvideo_mcp.errors import RefvideoError, clean
from refvideo_mcp.jobs import Jobs, Submission
from refvideo_mcp.ledger import Draft, Job
from refvideo_mcp.schemas import GenerateCall, read_arguments

__all__ = ["add_options", "run"]

WRITTEN = {
    "subjects": (
        "--subject",
        {
            "metavar": "ID=PICTURE[,PICTURE]",
            "action": "append",
            "help": "a person or thing and its pictures: paths, URLs, data URIs; repeat it for more",
        },
    ),
    "save_to": ("--save-to", {"metavar": "PATH", "help": "a folder or .mp4 path for the video"}),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_spec_options(parser, GenerateCall, WRITTEN)
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    parser.add_argument("--no-wait", action="store_true", help="only start the job")
    parser.add_argument("--yes", action="store_true", help="buy it without the question that REFVIDEO_CONFIRM asks")
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Make the video and show where it is."""
    call = _call(options)
    settings = read_settings(needs_memory=options.no_wait)
    sign = "[sandbox] " if settings.sandbox else ""
    screen = Screen(sys.stderr, STEPS_WIDTH)
    known: list[Job] = []
    if settings.sandbox:
        screen.noted("sandbox", "a simulated router in this process: nothing is paid")

    async def draft(jobs: Jobs) -> Draft:
        await ask_about_folders(jobs, call)
        return (await jobs.buying.draft(call, save_to=call.save_to)).draft

    async def generate(jobs: Jobs) -> Job:
        await ask_about_folders(jobs, call)
        release = await ask_about_twin(jobs, call)
        buy = await ask_before_buying(jobs, call, above=settings.confirm_above, released=release, yes=options.yes)
        job = await _submitted(jobs, call, screen, known, release=release, buy=buy)
        return job if options.no_wait else await wait(jobs, job.handle, screen)

    if options.dry_run:
        _print_draft(with_jobs(settings, draft), screen, as_json=options.json)
        return DONE
    try:
        job = with_jobs(settings, generate)
    except KeyboardInterrupt:
        print_error(_interrupted(known, sign), as_json=options.json)
        return INTERRUPTED
    code = print_job(job, screen, as_json=options.json, sign=sign, notes=False)
    return DONE if options.no_wait and job.task_id else code


def _call(options: argparse.Namespace) -> GenerateCall:
    """The request, with relative paths from the folder where the person is."""
    arguments = given(options, GenerateCall)
    if options.subjects:
        arguments["subjects"] = subjects_of(options.subjects)
    call = read_arguments(GenerateCall, arguments, {name: option for name, (option, _) in WRITTEN.items()})
    subjects = [s.model_copy(update={"images": [from_here(image) for image in s.images]}) for s in call.subjects]
    return call.model_copy(update={"subjects": subjects, "save_to": from_here(call.save_to) if call.save_to else None})


async def _submitted(
    jobs: Jobs, call: GenerateCall, screen: Screen, known: list[Job], *, release: bool, buy: bool
) -> Job:
    """The job once the router has it. `known` gets it before it is sent, and again with its task id."""
    with screen.waiting("job") as show:

        def on_opened(job: Job) -> None:
            known.append(job)
            show("submitting")

        show("reading pictures")
        submitted = jobs.buying.submitted(
            call, key=call.idempotency_key, save_to=call.save_to, release=release, buy=buy, on_opened=on_opened
        )
        async with submitted as done:
            known.append(done.job)
    _print_submission(done, jobs.buying.pictures_go_to, screen)
    return done.job


def _print_submission(done: Submission, sent_to: str, screen: Screen) -> None:
    if done.sent:
        screen.done("pictures", f"{', '.join(clean(path.name, 60) for path in done.sent)}, sent to {sent_to}")
    left = f"; {done.allowance.rstrip('.')}" if done.allowance else ""
    joined = ", which an identical call had started: nothing new was bought" if done.joined else ""
    screen.done("job", f"{done.job.handle}{joined}{left}")
    for warning in done.job.warnings:
        screen.noted("note", warning)


def _print_draft(draft: Draft, screen: Screen, *, as_json: bool) -> None:
    """The request on stdout, as it would be sent, but with each picture's size and hash in its place."""
    if as_json:
        print(json.dumps({"request": draft.request, "warnings": list(draft.warnings)}, indent=2))
        return
    print(json.dumps(draft.request, indent=2), flush=True)
    for warning in draft.warnings:
        screen.noted("note", warning)
    screen.noted("dry run", "nothing was sent")


def _interrupted(known: list[Job], sign: str) -> RefvideoError:
    if not known:
        way_back = "nothing was sent."
    elif sign:
        way_back = "the simulated job ended with this command."
    elif known[-1].task_id:
        way_back = f"the job goes on. To come back: refvideo-mcp result {known[-1].handle}"
    else:
        way_back = f"the job was being submitted. What became of it: refvideo-mcp result {known[-1].handle}"
    error = RefvideoError(f"{sign}Interrupted:", way_back)
    error.job = known[-1] if known else None
    return error
