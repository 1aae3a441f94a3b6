"""The one exception that is the user's to mend."""


class UserError(ValueError):
    """A mistake in what the user asked for.

    Its message is one line that names the option, the value given and what would be accepted.
    The command prints it on stderr without a traceback and exits with status 2.
    """
