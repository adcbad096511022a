"""Facts in words, single messages and digests."""

from __future__ import annotations

import dataclasses

import pytest

from k4_pipeline.alerts.delivery import Target, targets_of
from k4_pipeline.alerts.facts import KINDS, Fact, check_fact, run_fact
from k4_pipeline.alerts.messages import DIGEST_MESSAGES, FEW, digest, single, to_messages
from k4_pipeline.errors import ConfigError
from k4_pipeline_tests.alerts.receivers import receiver

UI = "http://127.0.0.1:3000"


def check(number: int = 0, **changes) -> Fact:
    values = {
        "asset": "daily_bars",
        "check": f"no_bar_lies_in_the_future_{number}",
        "partition": None,
        "passed": False,
        "blocks": True,
        "published": False,
        "cause": "AAA 2031-01-01",
        "run_id": "r1",
        "at": 1.5,
        "value": 7.0,
        "threshold": 0.5,
    }
    return check_fact(**{**values, **changes})


def test_a_single_message_names_cause_value_threshold_effect_next_step_page_run_and_fact():
    message = single(check(partition="2020-01-01"), UI)
    assert message.title == "K4: check failed: no_bar_lies_in_the_future_0 on daily_bars, as_of 2020-01-01"
    for part in (
        "AAA 2031-01-01",
        "value 7, threshold 0.5",
        "not published",
        "materialize daily_bars again",
        f"{UI}/assets/daily_bars?view=checks",
        "Run r1.",
        check(partition="2020-01-01").id,
    ):
        assert part in message.body


@pytest.mark.parametrize(
    "blocks, published, words",
    [
        (True, False, "not published and its run stopped there"),
        (False, True, "does not block: this version is published"),
        (False, False, "does not block by itself; this version is not published, because another check"),
    ],
)
def test_the_effect_is_what_happened(blocks, published, words):
    assert words in check(blocks=blocks, published=published).effect


def test_one_occurrence_has_one_id_and_two_have_two():
    assert check().id == check(cause="other words").id
    assert len({check().id, check(1).id, check(at=2.5).id, check(run_id="r2").id, check(partition="p").id}) == 5


def test_a_check_that_raised_is_told_as_not_evaluated():
    fact = check(cause="the check could not be evaluated: KeyError: 'close'")
    assert fact.kind == "check_not_evaluated"


def test_a_fact_survives_storage_and_long_causes_are_cut():
    fact = run_fact("run_failed", run_id="r", job="retrain", partition=None, at=1.0, cause="x" * 10_000)
    assert Fact.from_dict(fact.to_dict()) == fact
    assert len(fact.cause) < 2000
    assert set(dataclasses.asdict(fact)) >= set(fact.to_dict())


def test_few_facts_have_a_message_each_and_many_a_digest():
    few = [check(i) for i in range(FEW)]
    assert len(to_messages(few, UI, 20_000)) == FEW
    assert len(to_messages([*few, check(99)], UI, 20_000)) == 1


@pytest.mark.parametrize("limit", [4096, 20_000])
def test_a_digest_of_200_is_at_most_five_messages_within_the_limit_and_holds_each_fact_once(limit):
    facts = [check(i, cause="a long cause " * 30) for i in range(200)]
    messages = digest(facts, UI, limit)
    assert len(messages) <= DIGEST_MESSAGES
    assert all(len(m.title) + len(m.body) <= limit for m in messages)
    assert [i for m in messages for i in m.ids] == [f.id for f in facts]
    text = "\n".join(m.body for m in messages)
    assert all(text.count(f"[{f.id}]") == 1 for f in facts)


def test_every_kind_has_words():
    for kind in KINDS:
        assert single(Fact(kind, "s", "e", 1.0, "t"), UI).title.startswith("K4: ")


def test_a_message_arrives_over_http_and_a_refusal_is_an_error_that_says_why():
    with receiver() as hook:
        target = Target(hook.url, 1)
        assert target.send(single(check(), UI)) == ""
        assert "AAA 2031-01-01" in hook.messages[0]["message"]
        hook.status = 500
        assert "500" in target.send(single(check(), UI))


def test_an_unknown_url_is_refused_without_its_secret_and_does_not_silence_the_others():
    with pytest.raises(ConfigError) as error:
        Target("nosuch://user:geheim@host", 1)
    assert "nosuch" in str(error.value)
    assert "geheim" not in str(error.value)
    targets, problems = targets_of(["nosuch://user:geheim@host", "json://user:geheim@localhost"])
    assert len(targets) == len(problems) == 1
    assert "geheim" not in targets[0].name
