"""Errors that a user can cause and mend."""

PROGRAM = "fairseq-layerdrop"


class UserError(SystemExit, ValueError):
    """A mistake in what the user gave, told in one line.

    To code that calls us it is a :class:`ValueError`. Where nobody catches it, Python ends the program as for any
    :class:`SystemExit`: one line on standard error, exit status 1 and no traceback. So fairseq's own commands, whose
    ``main`` we don't own, end as ours do.
    """

    def __init__(self, message: str):
        # What users wrote is quoted in messages: keep them to one line, whatever it holds.
        message = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
        super().__init__(message)
        self.message = message
        self.code = f"{PROGRAM}: error: {message}"

    def __str__(self) -> str:
        return self.message
