"""Defines the errors that a user can fix, one class for each kind."""


class UserError(Exception):
    """An error that the user can fix.

    The message says what was expected, what was received, in which file, and what to do next.
    """

    status = 2  # the exit status of a script that ends with this error


class HyperparameterError(UserError):
    """A flag, or a field of a saved configuration, with an invalid value."""


class DatasetError(UserError):
    """A source without usable slices, or without a usable split."""


class VolumeError(UserError):
    """An image file that cannot be read."""


class ArchiveError(UserError):
    """An archive that is damaged, or a file that is no archive."""


class DownloadError(UserError):
    """A file that a server does not provide, or not completely."""

    status = 1


class WriteError(UserError):
    """A file that cannot be written to the disk."""

    status = 1


class TrainingError(UserError):
    """Training that cannot continue with its configuration."""


class WorkerError(UserError):
    """A process of the same training that has ended."""

    status = 1


class RunFolderError(UserError):
    """A folder that is not a run, or a run whose files do not belong together."""


COPY_WHOLE = "Copy the whole run folder, or train again"  # the remedy for a damaged run folder
