"""Errors that bad input causes, named by what to correct. The command line prints the message and exits with its code, mostly 2."""

from search_spaces.errors import GenotypeError, SpaceError, UserError

__all__ = ["ConfigError", "DataError", "GenotypeError", "LossesError", "RunError", "SpaceError", "UserError"]


class ConfigError(UserError):
    """A setting breaks a rule. Correct the flag, the --set, or the preset."""


class DataError(UserError):
    """A data set is missing, incomplete or corrupt. Fetch it, name another folder, or choose another data set."""


class RunError(UserError):
    """A run folder cannot be used as asked. Name another run, or repair this one as the message says."""


class LossesError(RunError):
    """Fewer than half of a search's children survived: what is left of them may say little. Correct why they fail, and resume."""

    exit_code = 3
