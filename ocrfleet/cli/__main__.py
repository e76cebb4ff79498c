"""`python -m ocrfleet.cli`."""

from ocrfleet.cli import main

main()
