"""Facts as messages: one each while they are few, a digest when they are many. Every fact is in exactly one message."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from k4_pipeline.alerts.facts import KINDS, Fact, clip

FEW = 3  # up to this many facts have a message each
DIGEST_MESSAGES = 5  # a digest shortens its causes rather than become more messages than this
CAUSE_WIDTHS = (160, 60, 0)


@dataclass(frozen=True)
class Message:
    """One message and the facts in it."""

    title: str
    body: str
    ids: tuple[str, ...]


def plain(text: str, *, lines: bool = False) -> str:
    """`text` without what a terminal, a mail header or a chat would take as an order; with `lines` breaks stay."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else "\n" if c == "\n" else " " for c in text)
    return kept if lines else " ".join(kept.split())


def in_words(fact: Fact) -> str:
    """`check failed: no_bar_lies_in_the_future on daily_bars`."""
    return plain(fact.title if fact.kind == "recovered" else f"{KINDS[fact.kind]}: {fact.title}")


def _numbers(fact: Fact) -> str:
    parts = [f"value {fact.value:.6g}"] if fact.value is not None else []
    parts += [f"threshold {fact.threshold:.6g}"] if fact.threshold is not None else []
    return ", ".join(parts)


def single(fact: Fact, ui: str) -> Message:
    """The whole fact as one message; `ui` is the address of the web server."""
    numbers = _numbers(fact)
    lines = [
        fact.cause,
        f"Measured: {numbers}." if numbers else "",
        fact.effect,
        f"Next: {fact.next_step}" if fact.next_step else "",
        f"Page: {ui.rstrip('/')}{fact.path}" if fact.path else "",
        f"Run {fact.run_id}." if fact.run_id else "",
        f"Fact {fact.id}.",
    ]
    body = "\n".join(plain(line, lines=True) for line in lines if line)
    return Message(clip(f"K4: {in_words(fact)}", 200), body, (fact.id,))


def _chunks(lines: list[tuple[str, str]], limit: int) -> list[list[tuple[str, str]]]:
    chunks: list[list[tuple[str, str]]] = [[]]
    used = 0
    for fact_id, line in lines:
        if chunks[-1] and used + len(line) + 1 > limit:
            chunks.append([])
            used = 0
        chunks[-1].append((fact_id, line))
        used += len(line) + 1
    return chunks


def digest(facts: Sequence[Fact], ui: str, limit: int) -> list[Message]:
    """All facts, a line each, in as few messages of at most `limit` characters as they need."""
    room = limit - 400  # title, headline and address
    for width in CAUSE_WIDTHS:
        lines = []
        for fact in facts:
            cause = plain(fact.cause)
            tail = f": {clip(cause, width)}" if width and cause else ""
            lines.append((fact.id, clip(f"- {in_words(fact)}{tail} [{fact.id}]", room)))
        chunks = _chunks(lines, room)
        if len(chunks) <= DIGEST_MESSAGES:
            break
    counts = Counter(KINDS[fact.kind] for fact in facts)
    summary = ", ".join(f"{n} x {name}" for name, n in counts.most_common())
    messages = []
    for number, chunk in enumerate(chunks, 1):
        part = f" (part {number} of {len(chunks)})" if len(chunks) > 1 else ""
        body = "\n".join([*(line for _, line in chunk), f"Pages: {ui.rstrip('/')}/runs"])
        messages.append(
            Message(clip(f"K4: {len(facts)} facts{part}: {summary}", 200), body, tuple(i for i, _ in chunk))
        )
    return messages


def to_messages(facts: Sequence[Fact], ui: str, limit: int) -> list[Message]:
    """One message each for few facts, else a digest."""
    return [single(fact, ui) for fact in facts] if len(facts) <= FEW else digest(facts, ui, limit)
