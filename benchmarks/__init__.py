"""Benchmarks beside other libraries, published results, and the programs that made them; not in the wheel."""
