"""`python -m medray.cli`."""

from medray.cli import main

main()
