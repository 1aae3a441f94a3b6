"""The one exception that is the user's to mend."""


class UserError(Exception):
    """A mistake in what the user asked for.

    Its message is one line that names the option, the value given and what would be accepted.
    The command prints it on stderr without a traceback and exits with status 2.
    """


def user_error_in(error: BaseException) -> UserError | None:
    """The UserError that an exception is or was raised from: jsonargparse wraps what a constructor raises."""
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, UserError):
        chain = chain.__cause__ or chain.__context__
    return chain
