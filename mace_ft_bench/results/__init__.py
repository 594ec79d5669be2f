"""Cases, records, the store and the runner."""
