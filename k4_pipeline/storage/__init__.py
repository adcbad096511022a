"""The one door for everything this package stores: `from k4_pipeline.storage import ...`.

`atomic` holds the file-system primitives, `parquet` the tables, `artifacts` the versioned results of the graph.
"""

from k4_pipeline.storage.artifacts import (
    ArtifactRef as ArtifactRef,
    ArtifactStore as ArtifactStore,
    StagedArtifact as StagedArtifact,
)
from k4_pipeline.storage.atomic import (
    atomic_path as atomic_path,
    atomic_write_bytes as atomic_write_bytes,
    atomic_write_json as atomic_write_json,
    atomic_write_text as atomic_write_text,
    file_lock as file_lock,
    sha256_file as sha256_file,
)
from k4_pipeline.storage.parquet import (
    parquet_writer as parquet_writer,
    read_parquet as read_parquet,
    read_parquet_metadata as read_parquet_metadata,
    write_parquet as write_parquet,
)
