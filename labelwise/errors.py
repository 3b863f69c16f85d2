"""Every exception a user can meet.

    LabelwiseError              something a message can explain; the command line prints only that
    ├── UsageError              the call or the data is unusable (exit status 2)
    │   ├── OptionError         an option or argument has a value that cannot be used
    │   ├── DataError           the data cannot be used: no image, no label, a broken table
    │   ├── LayerError          a network's layers do not fit together or onto the input
    │   ├── BundleError         a saved model is damaged, foreign or too new
    │   ├── BackboneError       a pretrained network is unknown or its weights are not at hand
    │   └── MissingExtraError   an optional package is not installed
    └── RunError                the run was fine to start and failed (exit status 1)
        └── TrainingError       a recipe could not finish: NaN loss, nothing to learn from

A message says what is wrong with the value in hand, what was expected, and what to do next.
"""

#: what several places say of a train part that nothing can be learned from
NO_LABELED = "There is no labeled image to learn from in this train part."


class LabelwiseError(Exception):
    """Something a message can explain; the command line prints only the message."""

    exit_status = 1


class UsageError(LabelwiseError):
    """The call or the data is unusable."""

    exit_status = 2


class OptionError(UsageError, ValueError):
    """An option or argument has a value that cannot be used."""


class DataError(UsageError, ValueError):
    """The data cannot be used: no image, no label, a broken table."""


class LayerError(UsageError, ValueError):
    """A network's layers do not fit together, or onto the input."""


class BundleError(UsageError):
    """A saved model is damaged, foreign or too new."""


class BackboneError(UsageError):
    """A pretrained network is unknown, or its weights are not at hand."""


class MissingExtraError(UsageError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'labelwise[{extra}]'"
        )


class RunError(LabelwiseError):
    """The run was fine to start and failed."""


class TrainingError(RunError):
    """A recipe could not finish: the loss is not a number, or there is nothing to learn from."""


def interruption(error: BaseException | None) -> BaseException | None:
    """The Ctrl-C or the end that was asked for behind an error, if there is one.

    Where it meets Python in the middle of making a class, as in an import, it comes out as the
    cause of a RuntimeError.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        error = error.__cause__ or error.__context__
    return error
