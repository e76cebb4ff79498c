"""The thin HTTP API: it validates, writes rows and answers."""
