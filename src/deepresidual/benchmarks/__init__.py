"""Benchmarks: how fast and how small this installation is; ``residual benchmark`` reaches them.

Rows that compare with other libraries stand beside the package, in ``benchmarks/`` of a checkout.
"""
