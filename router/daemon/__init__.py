"""Processes: the supervisor, its workers, and how they start, reload and stop. Lifecycle only."""
