"""Benchmarks: one module each, run as `python -m bench.NAME`, that prints one JSON record and exits 0 or 1."""
