"""One site in one thread: the product's workers, commands and databases under a seeded scheduler."""
