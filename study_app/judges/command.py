"""The command `evalkit judge`: a vision-language model answers a study's comparisons, apart from people."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from study_app.run_database import Db, Run, begun, opened

if TYPE_CHECKING:
    from study_app.judges.budget import Spending
    from study_app.judges.judge_pages import CallKey, JudgePages

RESERVED = ("model", "messages", "response_format", "stream", "n")


def judge(
    run: Run,
    model: Annotated[str, typer.Option(help="The model's name at the endpoint.")],
    endpoint: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server: http://127.0.0.1:8000/v1.")],
    db: Db = None,
    name: Annotated[str | None, typer.Option(help="The judge's name in tables. Default: the model's.")] = None,
    kind: Annotated[str, typer.Option("--type", help="How it is asked: pairwise, canvas or score.")] = "pairwise",
    questions: Annotated[
        str | None, typer.Option(help="Questions of the study, with commas: overall,quality. Default: all pairwise ones.")
    ] = None,
    subset: Annotated[int | None, typer.Option(min=1, help="So many comparisons; the same ones for every judge.")] = None,
    votes: Annotated[int, typer.Option(min=1, max=100, help="Repetitions of each order.")] = 1,
    budget: Annotated[
        list[str] | None, typer.Option(help="A cap: calls=500, tokens=2M or money=3.50; repeatable. Resuming counts on.")
    ] = None,
    price: Annotated[
        tuple[float, float], typer.Option(help="Price per million prompt tokens and per million answer tokens.")
    ] = (0.0, 0.0),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and price; send nothing.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests in flight.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for one answer.")] = 120.0,
    retries: Annotated[int, typer.Option(min=0, max=5, help="How often a refusal or nonsense is asked again.")] = 1,
    answer: Annotated[
        Literal["auto", "json", "text"], typer.Option(help="Form of answers: JSON by schema, or the bare label.")
    ] = "auto",
    longest_side: Annotated[
        int | None, typer.Option(min=64, help="Reduce larger images to this side in pixels (Lanczos).")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(help="A field of the request as NAME=JSON: seed=1, max_tokens=64; null drops it.")
    ] = None,
    send_images_to: Annotated[
        str | None, typer.Option(help="The host that images may be sent to; this machine needs no consent.")
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the server's key, which is never stored.")
    ] = "EVALKIT_JUDGE_KEY",
) -> None:
    """Let a vision-language model answer the study's comparisons, blind and in both orders.

    Its answers are stored apart from people's, take no place of a participant and enter no result about people. Repeat the
    command to resume: what has been answered is not asked again.
    """
    from db.session import read, write
    from db.utc import utc_now
    from evalkit.cli.console import stdout
    from study_app.judges.ask_judge import ANSWER, JudgeRun, spent_before
    from study_app.judges.budget import Prices, Spending, parse_budget
    from study_app.judges.chat_client import ChatClient
    from study_app.judges.endpoint import open_endpoint
    from study_app.judges.judge_chain import JudgeSpec, begin_judge, check_frozen, find_judge
    from study_app.judges.judge_pages import JudgePages, calls_of
    from study_app.judges.judge_types import judge_type
    from study_app.judges.pace import Pace
    from study_app.judges.probe import probe

    asked_type, caps, parameters = judge_type(kind), parse_budget(budget or []), _parameters(parameter or [])
    console = stdout()
    with opened(run, db) as database:
        study_id = begun(database, run)
        with read(database) as session:
            from db.models import Study

            study = session.get_one(Study, study_id)
        wanted = calls_of(database, study, questions.split(",") if questions else None, subset, votes)
        pages = JudgePages(database, run, study, longest_side)
        spending = Spending(caps, Prices(*price), _most_tokens(parameters))
        if dry_run:
            for line in _priced(wanted, pages, asked_type.name, spending):
                console.print(line, markup=False)
            return
        target = open_endpoint(endpoint, send_images_to, _may_leave(study.design), key_variable)
        pace = Pace(concurrency)
        client = ChatClient(target, timeout, pace.slower, pace.stopped.wait)
        frozen = {**parameters, "longest_side": longest_side}
        with _alone(run, name or model):
            with read(database) as session:
                known = find_judge(session, study_id, name or model)
            if known is not None:
                form = known.parameters[ANSWER] if answer == "auto" else answer
                spec = JudgeSpec(name or model, asked_type, target.url, model, {**frozen, ANSWER: form})
                check_frozen(known, study, spec)
            else:
                page = pages.page(wanted[0].comparison_id, wanted[0].question)
                form, said = probe(client, asked_type, page, model, parameters, answer)
                spec = JudgeSpec(name or model, asked_type, target.url, model, {**frozen, ANSWER: form})
                with write(database) as session:
                    known = begin_judge(session, study, spec, said, utc_now())
            if not target.is_loopback:
                console.print(f"images are sent to {target.host}, as --send-images-to allows", markup=False)
            spent_before(database, known.id, spending)
            with _bar(len(wanted)) as advance:
                done = JudgeRun(database, pages, known.id, client, spending, pace, retries, advance).ask(wanted)
        state = "stopped at the budget, " if done.at_budget else ""
        console.print(f"{name or model}: {state}{done.done:,} of {done.wanted:,} calls; {_spent(spending)}", markup=False)


def _parameters(options: list[str]) -> dict[str, Any]:
    """Return the fields sent with every request."""
    from evalkit.errors import UserError

    parameters: dict[str, Any] = {"temperature": 0, "max_tokens": 16}
    for option in options:
        key, _, text = option.partition("=")
        if not key or key in RESERVED:
            raise UserError(
                f"--parameter {option!r}: {', '.join(RESERVED)} are set by evalkit; give another field as NAME=JSON"
            )
        try:
            parameters[key] = json.loads(text)
        except ValueError:
            raise UserError(f"--parameter {option!r}: the value is not JSON; write for example seed=1") from None
    return parameters


def _most_tokens(parameters: dict[str, Any]) -> int:
    """Return how many tokens an answer may have, as the request limits it."""
    from evalkit.errors import UserError

    caps = [parameters.get(name) for name in ("max_tokens", "max_completion_tokens")]
    numbers = [cap for cap in caps if isinstance(cap, int) and cap > 0]
    if not numbers:
        raise UserError("--parameter: needs max_tokens or max_completion_tokens, so that an answer has a highest price")
    return max(numbers)


def _may_leave(design: dict[str, Any]) -> bool:
    return design.get("images_may_leave", True) is not False


def _priced(wanted: "list[CallKey]", pages: "JudgePages", kind: str, spending: "Spending") -> list[str]:
    """Return what the calls would cost, from the sizes of all their images."""
    from study_app.judges.judge_types import judge_type
    from study_app.judges.request_body import estimated_tokens

    tokens = 0
    for key in wanted:
        page = pages.page(key.comparison_id, key.question)
        tokens += estimated_tokens(judge_type(kind).parts(page, key.swapped))
    answers = len(wanted) * spending.completion_cap
    cost = spending.prices.of(tokens, answers)
    return [
        f"{len(wanted):,} calls in both orders, about {tokens:,} prompt tokens (one per 32 x 32 px) and at most "
        f"{answers:,} answer tokens",
        f"price: {cost:,.2f} at {spending.prices.prompt:g} and {spending.prices.completion:g} per million; nothing was sent",
    ]


def _spent(spending: "Spending") -> str:
    tokens = f"{spending.calls:,} requests, {spending.prompt_tokens + spending.completion_tokens:,.0f} tokens"
    return f"{tokens}, price {spending.money:,.2f}" if spending.money else tokens


@contextmanager
def _alone(run: Path, name: str) -> Iterator[None]:
    """Refuse a second process that runs the same judge; a killed one holds nothing."""
    import hashlib

    from evalkit.errors import UserError

    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield
        return
    path = run / "study" / f"judge-{hashlib.sha256(name.encode()).hexdigest()[:12]}.lock"
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"judge {name!r}: another process runs it; wait for that one, or give another --name") from None
        yield


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("judge", total=total)
        yield lambda: progress.advance(task)
