"""Measurements, never assertions: `make bench [CASES=glob]` runs them, prints a
table and writes build/bench/<group>.json.

    rows      Row, and the registry of cases
    kernel, image, …   the cases, one module a group; a case's name begins with its group

A peer is always measured in the same run as we are, and the figure is their ratio, because machines are noisy.
"""
