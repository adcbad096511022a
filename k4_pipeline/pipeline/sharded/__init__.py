"""The data stages over shards of whole tickers as Ray tasks: equal, byte for byte, to the stages in one process.

A task reads shards from an fsspec store, computes with the same domain functions, writes a shard under a temporary
name and moves it into place; what travels through Ray is names and hashes. A task whose node dies runs again elsewhere.
"""
