"""Benchmarks: what is as fast, or as small, as what people use otherwise; one file a benchmark.

Every row is a ratio: both sides measured in turn in one process. ``residual benchmark`` reaches them.
"""
