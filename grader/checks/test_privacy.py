"""What must not be told: card tokens and secrets in logs and answers, internals in answers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable

from devstack.artifacts import Artifact, Exchange
from grader.checks.purchases import recorded
from grader.judge import Judge, check
from grader.text import one_line

AROUND = 60

_INTERNALS = re.compile(
    r"Traceback \(most recent call last\)"
    r"|File \\?[\"']/[^\"']+\\?[\"'], line \d+"
    r"|\b(?:sqlalchemy|asyncpg|psycopg|psycopg2|psycopg_pool|httpx|httpcore|aiohttp|urllib3)\b"
    r"|sqlalche\.me"
    r"|violates [a-z-]+(?: [a-z]+)? constraint|duplicate key value|too many connections for role"
    r"|\[Errno -?\d+\]|object at 0x[0-9a-f]+"
    r"|(?i:password)\s*="
)
_VERB = re.compile(r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM)\s")
_CLAUSE = re.compile(r"\b(?:FROM|VALUES|SET|WHERE)\b")
_STATEMENT_CHARACTERS = 2_000
_VERBS = 100
"""How many verbs of a text are looked at: it may consist of nothing else."""


@check(
    id="secrets-in-logs",
    category="monitoring-reliability",
    level="mid",
    title="No card token or secret is logged or answered",
    failure_title="Card tokens or secrets are in logs or answers",
    why="Logs go to more places and people than the database does, and stay longer. A card token in them is an incident that has to "
    "be reported, and it is found by whoever searches the log for something else.",
    remediation="Keep tokens and secrets in SecretStr, log ids and outcomes instead of bodies, answer 422 without `input`, and hide "
    "parameters of statements (hide_parameters) and messages of exceptions that quote them.",
    question="Which of your log lines could ever contain what a buyer typed? What about the ones your libraries write?",
)
def test_secrets_in_logs(failures: Artifact, judge: Judge) -> None:
    searched = f"{failures.number('log-characters'):.0f} characters"
    judge.true("the service's output was searched", True, searched)
    secrets = failures.fact("secrets")
    for name, secret in secrets.items() if isinstance(secrets, dict) else ():
        lines = failures.number(f"log-lines-with-{name}")
        judge.equal(f"log lines with a {name}", lines, 0, source="contract: no card token in answers or logs")
        telling = [answer for answer in recorded(failures, "") if str(secret) in _told_by(answer)]
        judge.equal(
            f"answers with a {name}",
            len(telling),
            0,
            source="contract: no internals or card token in answers",
        )
        found = failures.text(f"log-with-{name}")
        if found:
            judge.evidence(found, name=f"log lines with a {name}")
        judge.evidence(*telling[:3])


@check(
    id="internals-in-answers",
    category="monitoring-reliability",
    level="junior",
    title="Answers to failed requests tell nothing of the inside",
    failure_title="Failed requests are answered with internals or a bare 500",
    why="Text of exceptions names tables, hosts, libraries and versions to everybody who can provoke an error, and tells a buyer "
    "nothing. A bare 500 says that nobody thought of this case, and that a retry may or may not help.",
    remediation="Map what you expect (upstream or database unavailable, constraint violated) where it arises; for the rest one "
    "handler that logs the error with the request's id and answers with the id only. Never `detail=str(exc)`, never debug.",
    question="A constraint you did not expect is violated in production. What does the buyer see, and what do you find in the log?",
)
def test_internals_in_answers(failures: Artifact, judge: Judge) -> None:
    answers = [answer for answer in recorded(failures, "") if answer.status is not None]
    failed = [answer for answer in answers if answer.status is not None and answer.status >= 400]
    addresses = failures.fact("internal-addresses")
    known = [str(address) for address in addresses] if isinstance(addresses, list) else []
    telling = {id(answer): seen for answer in failed if (seen := _internals_of(answer, known))}
    judge.equal(
        "failed requests answered with internals",
        len(telling),
        0,
        source="contract: no traceback or internals in answers",
    )
    bare = [answer for answer in failed if answer.status == 500]
    judge.equal("requests answered 500", len(bare), 0, source="contract: a bare 500 is a defect")
    judge.true("failed requests were answered at all", bool(failed), f"{len(failed)} answers were read")
    if telling:
        judge.summary(f"{len(telling)} answers with internals, such as: {next(iter(telling.values()))}")
    judge.evidence(*_one_of_each(answer for answer in failed if id(answer) in telling), *_one_of_each(bare))


def _told_by(answer: Exchange) -> str:
    """All text of an answer; the body is kept as text or, when it was JSON, as its value."""
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    payload = "" if answer.payload is None else json.dumps(answer.payload, ensure_ascii=False)
    return f"{headers}\n{answer.body}\n{payload}"


def _internals_of(answer: Exchange, addresses: Iterable[str]) -> str:
    """What an answer tells of the inside, with a few words around; empty if nothing."""
    text = _told_by(answer)
    found = _INTERNALS.search(text) or _statement_in(text)
    start = found.start() if found else next((at for known in addresses if (at := text.find(known)) >= 0), -1)
    return one_line(text[max(0, start - AROUND // 2) : start + AROUND]) if start >= 0 else ""


def _statement_in(text: str) -> re.Match[str] | None:
    """The verb of the first SQL statement."""
    for verb in itertools.islice(_VERB.finditer(text), _VERBS):
        if _CLAUSE.search(text, verb.end() + 1, verb.end() + _STATEMENT_CHARACTERS):
            return verb
    return None


def _one_of_each(answers: Iterable[Exchange]) -> list[Exchange]:
    """The first answer of each label."""
    return list({answer.label: answer for answer in reversed(list(answers))}.values())[:6]
