"""The shared kernel of OCR Fleet: states, errors, tables, queries, the Python SDK and the CLI."""
