"""`champion_model`: the model that serves, a frozen copy that moves only by the rule of evaluation/champion.py."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.defs.verdicts import stored_verdicts
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.evaluation import champion
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage import ArtifactRef, ArtifactStore

CANDIDATE_CHAIN = ("dataset_split", "trained_model", "predictions", "validation_report")


@k4_asset(
    deps=("trained_model", "validation_report"),
    kinds={"safetensors"},
    description="The model that serves. It moves to a newer as_of only when the checks of the candidate passed; every "
    "move is kept in its history, and `k4 champion rollback` goes back.",
)
def champion_model(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Compare the newest validated model with the one that serves."""
    with produce(context, k4, "champion_model") as work:
        market = champion.market_identity(work.config)
        serving = champion.serving(work.store)
        current = champion.Record.read(serving) if serving else None
        found = newest_candidate(work.store, market, held_back=current.held_back if current else ())
        decision = champion.decide(current, found[0] if found else None)
        moves = list(serving.meta["history"]) if serving else []
        if decision.moves and found:
            record, chain = found
            source = chain["trained_model"]
            moves.append(champion.move_entry(record, decision.why))
            champion.archive(work.store, source, record, moves)
        else:
            assert serving is not None  # decide() raises when there is neither champion nor candidate
            assert current is not None
            record, source = current, serving
        champion.copy_version(source, work.dir, skip=("config.json", champion.RECORD))
        record.write(work.dir)
        work.meta = {"history": moves, "as_of": record.as_of}
    rows = [[m["at"], m["as_of"], m["model"][:12], m["why"]] for m in reversed(moves)]
    return dg.MaterializeResult(
        metadata={
            "decision": f"{'moved' if decision.moves else 'kept'}: {decision.why}",
            "as_of": record.as_of,
            "provisional": record.provisional,
            "failed_checks": ", ".join(record.failed) or "none",
            "history": dg.MetadataValue.md(markdown_table(["at", "as_of", "model", "why"], rows)),
            **version_metadata(work.ref),
        }
    )


def newest_candidate(
    store: ArtifactStore, market: str, *, held_back: tuple[str, ...] = ()
) -> tuple[champion.Record, dict[str, ArtifactRef]] | None:
    """The newest as_of whose split, model, predictions and report were promoted and whose chain is current."""
    for as_of in reversed(store.partitions("validation_report")):
        try:
            chain = {name: store.current(name, as_of) for name in CANDIDATE_CHAIN}
            store.verify_chain(list(chain.values()))
        except StaleArtifactError:
            continue
        for ref in chain.values():
            ref.verify()
        failed = tuple(v.name for v in stored_verdicts(store, chain.values()) if not v.holds)
        record = champion.Record(as_of, chain["trained_model"].fingerprint, market, failed, held_back)
        return record, chain
    return None
