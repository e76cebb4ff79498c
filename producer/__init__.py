"""The producer: it expands jobs into pages, dispatches them and sweeps up what was lost."""
