"""Counting mail end to end: traffic with known content, stores that record it, and the check that accounts balance."""
