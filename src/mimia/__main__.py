"""``python -m mimia`` is the command line too."""

from mimia.cli.app import main

main()
