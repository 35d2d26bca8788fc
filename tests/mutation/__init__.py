"""The mutation check: every guard of durability and of exact holds is taken out once, and a test must turn red."""
