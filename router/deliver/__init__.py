"""The station that hands messages to next hops: schedule, resolution, connections, transactions, verdicts."""
