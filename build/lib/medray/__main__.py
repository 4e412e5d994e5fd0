"""`python -m medray`."""

from medray.cli import main

main()
