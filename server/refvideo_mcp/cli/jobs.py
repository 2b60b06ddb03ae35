"""`refvideo-mcp generate`, `result`, `list` and `save`: a job made, waited for, found again and fetched again."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import anyio

from refvideo_mcp.app import running
from refvideo_mcp.cli import DONE, INTERRUPTED
from refvideo_mcp.cli.console import Console, agreed
from refvideo_mcp.cli.options import add_json_option, add_spec_options, given, subjects_of
from refvideo_mcp.cli.results import print_error, print_job, print_json
from refvideo_mcp.cli.table import print_jobs
from refvideo_mcp.doors.shutdown import BEING_SUBMITTED, Shutdown
from refvideo_mcp.errors import Refused, RefvideoError, clean
from refvideo_mcp.files import NoPath, parse_path, scheme_of
from refvideo_mcp.jobs import (
    Account,
    Found,
    Order,
    Submission,
    about_buying,
    about_keeping,
    about_pictures,
    about_saving,
    about_twin,
    answers_of,
    is_lost,
    progress_message,
)
from refvideo_mcp.ledger import OPEN, Draft, Job
from refvideo_mcp.logs import logging_to_stderr
from refvideo_mcp.schemas import GenerateCall, ListCall, ResultCall, read_arguments
from refvideo_mcp.schemas.coercion import unwrapped
from refvideo_mcp.settings import Settings

__all__ = ["add_generate", "add_list", "add_result", "add_save", "from_here", "read_settings", "run_with_jobs"]

Result = TypeVar("Result")

STEPS_WIDTH = len("pictures")
# As long as a job is followed.
LONGEST_WAIT_SECONDS = 2 * 3600.0

WRITTEN = {
    "subjects": (
        "--subject",
        {
            "metavar": "ID=PICTURE[,PICTURE]|@ID",
            "action": "append",
            "help": "fox=a.png,b.png: a person or thing with its pictures (paths, URLs, data URIs); "
            "@fox: of the cast; repeat it for more",
        },
    ),
    "save_to": (
        "--save-to",
        {"metavar": "PATH", "help": "a folder or .mp4 path for the video; else the folder that doctor names"},
    ),
}


def add_generate(parser: argparse.ArgumentParser) -> None:
    add_spec_options(parser, GenerateCall, WRITTEN)
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    parser.add_argument("--no-wait", action="store_true", help="only start the job")
    parser.add_argument("--yes", action="store_true", help="buy it without the question that REFVIDEO_CONFIRM asks")
    add_json_option(parser)
    parser.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> int:
    """Make the video and show where it is."""
    call = _call(options)
    settings = read_settings(needs_memory=options.no_wait)
    sign = "[sandbox] " if settings.sandbox else ""
    console = Console(sys.stderr, STEPS_WIDTH)
    known: list[Job] = []
    if settings.sandbox:
        console.noted("sandbox", "a simulated router in this process: nothing is paid")

    async def draft(account: Account) -> Draft:
        order = await account.cast.order(call)
        await _ask_about_folders(account, order, call.save_to)
        return (await account.submitter.draft(order, save_to=call.save_to)).draft

    async def generate(account: Account) -> Job:
        order = await account.cast.order(call)
        await _ask_about_folders(account, order, call.save_to)
        await _ask_about_keeping(account, order)
        twin = await about_twin(account, order)
        release = twin is not None and agreed(twin)
        key, above = call.idempotency_key, settings.confirm_above
        buy = await _may_buy(account, order, key=key, above=above, released=release, yes=options.yes)
        job = await _submitted(account, call, order, console, known, release=release, buy=buy)
        return job if options.no_wait else await _wait(account, job.handle, console)

    if options.dry_run:
        _print_draft(run_with_jobs(settings, draft), console, as_json=options.json)
        return DONE
    try:
        job = run_with_jobs(settings, generate)
    except KeyboardInterrupt:
        print_error(_interrupted(known, sign), as_json=options.json)
        return INTERRUPTED
    code = print_job(job, console, as_json=options.json, sign=sign, notes=False)
    return DONE if options.no_wait and job.task_id else code


def add_result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="ID", help="the job's task id, or its key while it has none")
    parser.add_argument("--no-wait", action="store_true", help="just look")
    add_json_option(parser)
    parser.set_defaults(run=_result)


def _result(options: argparse.Namespace) -> int:
    """Wait for the job and show what became of it."""
    settings = read_settings(needs_memory=True)
    handle = read_arguments(ResultCall, {"task_id": options.task_id}).task_id
    console = Console(sys.stderr, STEPS_WIDTH)
    try:
        job = run_with_jobs(settings, partial(_wait, handle=handle, console=console, just_look=options.no_wait))
    except KeyboardInterrupt:
        way_back = f"the job goes on. To come back: refvideo-mcp result {handle}"
        print_error(RefvideoError("Interrupted:", way_back, task_id=handle), as_json=options.json)
        return INTERRUPTED
    return print_job(job, console, as_json=options.json, sign="")


def add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="WORD", nargs="*", help="only jobs that have all of these, as --query")
    add_spec_options(parser, ListCall, {})
    parser.add_argument("--open", dest="state", action="store_const", const="open", help="as --state open")
    parser.add_argument("--failed", dest="state", action="store_const", const="failed", help="as --state failed")
    add_json_option(parser)
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> None:
    """Print a table of the jobs, newest first, what is left of the allowance, and the balance where that is told."""
    settings = read_settings(needs_memory=True)
    arguments = given(options, ListCall)
    if options.words:
        arguments["query"] = " ".join([arguments.get("query", ""), *options.words])
    call = read_arguments(ListCall, arguments)

    async def search(account: Account) -> tuple[Found, float | None]:
        return await account.search(call), await account.balance()

    found, balance = run_with_jobs(settings, search)
    filtered = bool(call.model_fields_set - {"limit"})
    if options.json:
        print_json(answers_of(found, _next_step(found.jobs, filtered=filtered)), balance=balance)
    elif found.jobs:
        told = "" if balance is None else f"Balance at {urlsplit(settings.base_url).netloc}: {balance:.2f}"
        print_jobs(found, Console(sys.stdout, 0), told)
    else:
        print(_none(call))


def _none(call: ListCall) -> str:
    if call.query:
        return f"No {call.state or ''} job has all of these words in its prompt, ids or file name.".replace("  ", " ")
    if call.state:
        return f"No job is {call.state}."
    return "No older job." if call.before else "No jobs yet."


def add_save(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="ID", help="the job's task id")
    parser.add_argument("--to", "--save-to", metavar="PATH", help="a folder or .mp4 path; no file is ever written over")
    add_json_option(parser)
    parser.set_defaults(run=_save)


def _save(options: argparse.Namespace) -> int:
    """Ask for a fresh link, and save what it leads to in a new file."""
    settings = read_settings(needs_memory=True)
    handle = read_arguments(ResultCall, {"task_id": options.task_id}).task_id
    to = from_here(options.to) if options.to else None
    console = Console(sys.stderr, STEPS_WIDTH)

    async def save(account: Account) -> Job:
        if to:
            await _ask_about_saving(account, to)
        with console.waiting("video") as show:
            show("saving")
            return await account.save(handle, to)

    return print_job(run_with_jobs(settings, save), console, as_json=options.json, sign="")


def read_settings(*, needs_memory: bool) -> Settings:
    """`needs_memory`: the command is of use only for jobs of other commands.

    Raises:
        Refused: there is no key, or only a sandbox that would forget.
    """
    settings = Settings.read(os.environ)
    if not settings.api_key:
        raise Refused(
            "MYROUTER_API_KEY is not set.", "Set it to your router's key, or to sandbox: that simulates the router."
        )
    if settings.sandbox and needs_memory:
        raise Refused(
            "MYROUTER_API_KEY=sandbox simulates the router inside one command, and forgets its jobs when that ends.",
            "To come back to jobs, run refvideo-mcp sandbox, which says what to set.",
        )
    return settings


def run_with_jobs(settings: Settings, work: Callable[[Account], Awaitable[Result]]) -> Result:
    """Run `work` on the account's jobs. A POST on its way is waited for, 30 s at most, or until a second Ctrl-C.

    Raises:
        RefvideoError: as `work` does.
        KeyboardInterrupt: Ctrl-C, or another signal that ends a process.
    """
    shutdown = Shutdown()
    pending_posts = shutdown.pending_posts
    ended: list[Result | RefvideoError | KeyboardInterrupt] = []

    async def run() -> None:
        scope, loop = anyio.CancelScope(), asyncio.get_running_loop()

        def interrupt() -> None:
            scope.cancel()  # before whoever waits is told to end, or the wait would end with what it has so far
            pending_posts.ending = True

        with shutdown.on_signal(lambda _: loop.call_soon_threadsafe(interrupt)):
            async with running(settings, pending_posts=pending_posts) as state:
                with scope:  # inside which shields hold
                    try:
                        result = await work(state.account)
                        if not scope.cancel_called:  # else it is what a wait that was broken off had so far
                            ended.append(result)
                    except (RefvideoError, KeyboardInterrupt) as error:
                        ended.append(error)  # raised here, it would come out in a group of the jobs' own task group
                if not ended and pending_posts.count:
                    sys.stderr.write(
                        f"{BEING_SUBMITTED}\nCtrl-C again ends now; refvideo-mcp list then shows what became of it.\n"
                    )

    with logging_to_stderr(settings):
        anyio.run(run)
    if not ended:
        raise KeyboardInterrupt
    if isinstance(ended[0], RefvideoError | KeyboardInterrupt):
        raise ended[0]
    return ended[0]


async def _ask_about_folders(account: Account, order: Order, save_to: str | None) -> None:
    """Ask before pictures leave a folder, or a video is put into one, that the person has not allowed.

    Raises:
        Refused: they said no.
    """
    pictures = await about_pictures(account, order)
    if pictures is not None and agreed(pictures.text):
        await pictures.allow()
    if save_to:
        await _ask_about_saving(account, save_to)


async def _ask_about_saving(account: Account, place: str) -> None:
    saving = await about_saving(account, place)
    if saving is not None and agreed(saving.text):
        await saving.allow()


async def _ask_about_keeping(account: Account, order: Order) -> None:
    """Ask before pictures are kept. Where there is nobody to ask, the option was the answer.

    Raises:
        Refused: they said no.
    """
    keeping = await about_keeping(account, order)
    if keeping is not None:
        agreed(keeping)


async def _may_buy(
    account: Account, order: Order, *, key: str | None, above: int | None, released: bool, yes: bool
) -> bool:
    """Whether a new job may be bought; False where the call only joins one. `yes` was said beforehand.

    Raises:
        Refused: they said no, or there is nobody to ask.
    """
    question = await about_buying(account, order, key=key, above=above, released=released)
    if question.text and not yes and not agreed(question.text):
        raise Refused(
            "REFVIDEO_CONFIRM asks before a video is bought, and here is no terminal to ask on.",
            "Nothing was sent or bought. --yes says yes beforehand.",
        )
    return question.buys


def _call(options: argparse.Namespace) -> GenerateCall:
    """The request, with relative paths from the folder where the person is."""
    arguments = given(options, GenerateCall)
    if options.subjects:
        arguments["subjects"] = subjects_of(options.subjects)
    call = read_arguments(GenerateCall, arguments, {name: option for name, (option, _) in WRITTEN.items()})
    subjects = [
        s.model_copy(update={"images": [from_here(image) for image in s.images]}) if s.images else s
        for s in call.subjects
    ]
    return call.model_copy(update={"subjects": subjects, "save_to": from_here(call.save_to) if call.save_to else None})


def from_here(source: str) -> str:
    """A picture or place as it was typed, a relative path from the folder where the person is."""
    if scheme_of(unwrapped(source)) not in ("", "file"):
        return source
    try:
        text = parse_path(source)
    except NoPath:
        return source  # where it is read, it is refused
    if text.startswith("~"):
        return text
    return os.path.join(os.getcwd(), text)  # noqa: PTH109, PTH118  # pathlib would tidy what the checks should see


async def _submitted(
    account: Account, call: GenerateCall, order: Order, console: Console, known: list[Job], *, release: bool, buy: bool
) -> Job:
    """The job once the router has it. `known` gets it before it is sent, and again with its task id."""
    with console.waiting("job") as show:

        def on_opened(job: Job) -> None:
            known.append(job)
            show("submitting")

        show("reading pictures")
        submitted = account.submitter.submit(
            order, key=call.idempotency_key, save_to=call.save_to, release=release, buy=buy, on_opened=on_opened
        )
        async with submitted as done:
            known.append(done.job)
    _print_submission(done, account.submitter.pictures_go_to, console)
    return done.job


async def _wait(account: Account, handle: str, console: Console, *, just_look: bool = False) -> Job:
    """Wait until the job has ended and its video is saved, and show how it gets on.

    Raises:
        RefvideoError: as `Account.wait` does.
    """
    with console.waiting("video") as show:

        async def on_progress(job: Job, _: float) -> None:
            show(progress_message(job))

        return await account.wait(handle, 0 if just_look else LONGEST_WAIT_SECONDS, on_progress)


def _print_submission(done: Submission, sent_to: str, console: Console) -> None:
    sent = [*(clean(path.name, 60) for path in done.sent), *(f"{clean(name, 40)} (cast)" for name in done.members)]
    if sent:
        console.done("pictures", f"{', '.join(sent)}, sent to {sent_to}")
    left = f"; {done.allowance.rstrip('.')}" if done.allowance else ""
    joined = ", which an identical call had started: nothing new was bought" if done.joined else ""
    console.done("job", f"{done.job.handle}{joined}{left}")
    if done.kept:
        console.noted("cast", done.kept)
    for warning in done.job.warnings:
        console.noted("note", warning)


def _print_draft(draft: Draft, console: Console, *, as_json: bool) -> None:
    """The request on stdout, as it would be sent, but with each picture's size and hash in its place."""
    if as_json:
        print(json.dumps({"request": draft.request, "warnings": list(draft.warnings)}, indent=2))
        return
    print(json.dumps(draft.request, indent=2), flush=True)
    for warning in draft.warnings:
        console.noted("note", warning)
    console.noted("dry run", "nothing was sent")


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


def _next_step(jobs: Sequence[Job], *, filtered: bool) -> str:
    if not jobs:
        return "refvideo-mcp list shows the others." if filtered else "Nothing to do."
    if any(job.state in OPEN or (job.state == "succeeded" and not job.saved_to and not is_lost(job)) for job in jobs):
        return "refvideo-mcp result ID waits for a job and saves its video."
    return "refvideo-mcp result ID tells more about a job."
