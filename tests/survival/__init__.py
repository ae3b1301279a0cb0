"""Runs that are killed, stopped, starved of disk or spread otherwise, and what becomes of them."""
