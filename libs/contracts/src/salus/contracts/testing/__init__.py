"""What tests of a contract service need: topics in memory with faults, promises of hosts, laws of domains.

Only tests import it: it needs pytest and Hypothesis (`salus-contracts[testing]`).
"""
