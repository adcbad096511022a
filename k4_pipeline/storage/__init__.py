"""The one door for everything this package stores: `from k4_pipeline.storage import ...`.

`atomic` holds the file-system primitives, `storage_parquet` the tables, `artifacts` the versioned results of the graph.
"""

from k4_pipeline.storage.artifacts import ArtifactRef, ArtifactStore, StagedArtifact
from k4_pipeline.storage.atomic import (
    atomic_path,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    file_lock,
    sha256_file,
)
from k4_pipeline.storage.parquet import parquet_writer, read_parquet, read_parquet_metadata, write_parquet

__all__ = [
    "ArtifactRef",
    "ArtifactStore",
    "StagedArtifact",
    "atomic_path",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "file_lock",
    "parquet_writer",
    "read_parquet",
    "read_parquet_metadata",
    "sha256_file",
    "write_parquet",
]
