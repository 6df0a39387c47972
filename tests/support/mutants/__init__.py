"""Plugins that are broken on purpose, one way each, under the suites that must notice. Not collected by itself:
tests/unit/testing/test_testing_mutants.py runs it and looks at which tests failed.

A test class's `caught_by` names the check that must fail; the classes without one are sound and must pass whole.
"""
