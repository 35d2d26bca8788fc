"""The durable queue: one SQLite database per worker, body files beside it, and a journal of what became of mail."""
