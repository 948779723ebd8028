"""The one exception a user is meant to see: a line that says what was given, expected, and what to type."""


class UserError(ValueError):
    """Bad input. The command line prints the message, without a traceback, and exits with code 2."""
