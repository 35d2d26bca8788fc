"""Configuration: one YAML file, validated whole; every error at once with file, line and key."""
