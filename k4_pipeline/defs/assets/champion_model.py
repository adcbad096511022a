"""`champion_model`: the model that serves, a frozen copy that moves only by the rule of evaluation/promotion.py."""

import dataclasses

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import AssetRun, load_context, load_json, load_panel, load_table, market_of_run, produce
from k4_pipeline.defs.verdicts import stored_verdicts
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.evaluation import champion, promotion
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage import ArtifactRef, ArtifactStore

CANDIDATE_CHAIN = ("dataset_split", "trained_model", "predictions", "validation_report")
Candidate = tuple[champion.Record, dict[str, ArtifactRef]]


@k4_asset(
    deps=("trained_model", "validation_report"),
    kinds={"safetensors"},
    description="The model that serves. It moves to a later candidate whose checks passed and that was better on the "
    "same rows; every move is kept in its history, and `k4 champion rollback` goes back.",
)
def champion_model(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Compare the best validated candidate with the model that serves."""
    with produce(context, k4, "champion_model") as work:
        serving, market = champion.serving(work.store), market_of_run(work)
        own = champion.champion_of(work.store, serving, market)
        current = champion.Record.read(own) if own else None
        found = candidate_of(work.store, market, current)
        record, chain = found or (None, {})
        comparison = None
        if own and promotion.needs_comparison(current, record):
            comparison = compared(work, own, chain)
        decision = promotion.decide(current, record, comparison)
        moves = list(serving.meta["history"]) if serving else []
        number = champion.market_number(moves, current.model_fingerprint if current else "")
        if decision.moves and record:
            source = chain["trained_model"]
            metrics = chain["validation_report"].meta["metrics"]
            if comparison:
                metrics = {**metrics, "against_the_champion": dataclasses.asdict(comparison)}
            moves.append(champion.move_entry(record, decision.why, metrics, market=number))
            champion.archive(work.store, source, record, moves)
            serves = record
        else:
            assert own is not None  # decide() raises when there is neither champion nor candidate
            assert current is not None
            serves, source = current, own
            if own is not serving:
                moves.append(champion.move_entry(current, "its market is read here again", market=number))
                champion.archive(work.store, source, current, moves)
        champion.copy_version(source, work.dir, skip=champion.NOT_OF_THE_MODEL)
        serves.write(work.dir)
        said = decision.to_dict(serves, record)
        if own and not decision.judged and champion.DECISION in own.files:
            said = load_json(own, champion.DECISION)  # nothing was weighed: the last decision stands
        work.write_json(champion.DECISION, said)
        work.meta = {"history": moves, "as_of": serves.as_of}
    rows = [[m["at"], m["as_of"], m["model"][:12], m["why"]] for m in reversed(moves)]
    return dg.MaterializeResult(
        metadata={
            "decision": f"{'moved' if decision.moves else 'kept'}: {decision.why}",
            "as_of": serves.as_of,
            "provisional": serves.provisional,
            "failed_checks": ", ".join(serves.failed) or "none",
            "history": dg.MetadataValue.md(markdown_table(["at", "as_of", "model", "why"], rows)),
            **version_metadata(work.ref),
        }
    )


def compared(work: AssetRun, serving: ArtifactRef, chain: dict[str, ArtifactRef]) -> promotion.Comparison:
    """The serving champion against the candidate on the candidate's test rows."""
    from k4_pipeline.pipeline.challenge import challenge

    return challenge(
        serving.dir,
        predictions=load_table(chain["predictions"]),
        labeled=load_table(work.store.current("labeled_snapshots")),
        sequences=load_table(work.store.current("sequences")),
        panel=load_panel(work.store.current("market_features")),
        context=load_context(work.store.current("context_features")),
        config=work.config,
    )


def candidate_of(
    store: ArtifactStore, market: champion.Record, current: champion.Record | None = None
) -> Candidate | None:
    """The newest as_of that passed everything, else the newest one; only those whose chain was promoted and is current.

    As-of dates before that of the champion come last but one, models that a user rolled back from last.
    """
    held_back = current.held_back if current else ()
    found: list[Candidate] = []
    for as_of in reversed(store.partitions("validation_report")):
        try:
            chain = {name: store.current(name, as_of) for name in CANDIDATE_CHAIN}
            store.verify_chain(list(chain.values()))
        except StaleArtifactError:
            continue
        for ref in chain.values():
            ref.verify()
        failed = [v.name for v in stored_verdicts(store, chain.values()) if not v.holds]
        if load_json(chain["trained_model"], "facts.json")["too_few_k4"]:
            failed.append(champion.ENOUGH_K4)
        model = chain["trained_model"].fingerprint
        record = champion.Record(as_of, model, market.market, tuple(failed), held_back, market.universe)
        found.append((record, chain))
        if not failed and model not in held_back:
            break  # the newest that passed everything; older ones come after it

    def order(candidate: Candidate) -> tuple[bool, bool, bool]:
        record, _ = candidate
        older = current is not None and record.as_of < current.as_of
        return record.model_fingerprint in held_back, older, bool(record.failed)

    return min(found, key=order, default=None)
