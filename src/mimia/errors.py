"""The one exception that a user is meant to read."""


class MimiaError(Exception):
    """Bad input or a bad environment, told in one sentence that says how to mend it.

    The command line prints it without a traceback and exits with code 2.
    """
