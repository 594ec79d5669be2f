"""Models: cards, registry, weights without pickles."""
