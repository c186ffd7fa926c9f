"""The exception whose message is for the user."""


class MimiaError(Exception):
    """Bad input or a bad environment, in one sentence that says what is wrong and how to mend it.

    The command line prints it without a traceback and exits with code 2.
    """
