"""pandera schemas, one table per file; `base` holds the factory and `validate`."""

from k4_pipeline.schemas.base import table_schema, validate

__all__ = ["table_schema", "validate"]
