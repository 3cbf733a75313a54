"""The one base of every error that bad input causes; the command line turns it into one message and its exit code."""


class UserError(ValueError):
    """Input broke a rule. The message states the rule, the value that broke it and, where they are few, the valid choices."""

    exit_code = 2
    """What the command line ends with."""


class GenotypeError(UserError):
    """A genotype breaks a rule of the genotype format or lies outside the search space. Correct the genotype."""


class SpaceError(UserError):
    """A search-space declaration breaks a rule. Correct the declaration, or choose a listed space."""


class SkeletonError(UserError):
    """A skeleton breaks a rule, or does not fit the genotype. Correct the value, or choose another skeleton."""
