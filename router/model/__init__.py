"""Pure values that travel between stations: no I/O, no clocks, and no imports from the rest of the package."""
