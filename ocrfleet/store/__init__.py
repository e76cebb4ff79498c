"""Every query of the system, as named functions on the caller's session."""
