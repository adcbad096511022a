"""Planted leaks: ways in which the future has been seen to enter such pipelines, planted on purpose and counted.

The code in this package leaks by design. Nothing outside `leakage` may import it, and it acts only inside the context
managers of the registry: `registry.py` holds the entries, one file per stage the leaks themselves, `runner.py` runs
the audit on each of them and on clean runs, `universe.py` makes the small universes, `table.py` renders the result.
"""
