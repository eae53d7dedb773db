"""Benchmarks on real parts: each says the machine, prints a table and a line of JSON, and draws a plot."""
