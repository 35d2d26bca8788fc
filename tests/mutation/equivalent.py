"""
Mutants that no test can kill because they change nothing that is promised, each with its reason.

Guarantees: each name is one that the finder finds today (a test holds to that); the report prints every reason.
"""

EQUIVALENT: dict[str, str] = {}
