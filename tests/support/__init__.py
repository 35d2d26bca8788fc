"""Shared parts of the tests: in-memory ports, harnesses, and starters of real servers."""
