"""The failures that a user can mend, one class for each kind."""


class UserError(Exception):
    """Something that the user can mend.

    The message says what was expected, what was received, in which file, and what to do next.
    """

    status = 2  # the exit status of a script that ends with this error


class HyperparameterError(UserError):
    """A flag, or a field of a saved configuration, that no run can use."""


class DatasetError(UserError):
    """A source that holds no usable slices, or that splits into no usable parts."""


class VolumeError(UserError):
    """An image file that cannot be read as what it claims to be."""


class ArchiveError(UserError):
    """An archive that is damaged, or a file that is no archive."""


class DownloadError(UserError):
    """A file that a server does not give, or does not give whole."""

    status = 1


class WriteError(UserError):
    """A file that the disk does not take."""

    status = 1


class TrainingError(UserError):
    """Training that cannot go on as it is configured."""


class WorkerError(UserError):
    """Another process of the same training that has gone away."""

    status = 1


class RunFolderError(UserError):
    """A folder that is not a run, or a run whose files do not belong together."""


COPY_WHOLE = "Copy the whole run folder, or train again"  # the remedy for a damaged run folder
