"""The same faults for Sluice and for other relays, in the same harness: `./dev compare`."""
