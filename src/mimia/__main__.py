"""``python -m mimia`` is the command line too."""

from mimia.cli import main

main()
