"""The failures that a user can mend: each has an exit status that says whose fault it is."""

import pytest

from oasisvq.core import errors

CLASSES = [value for value in vars(errors).values() if isinstance(value, type)]
STATUS_1 = (errors.DownloadError, errors.WriteError, errors.WorkerError)  # a machine failed


@pytest.mark.parametrize("error", CLASSES)
def test_every_failure_is_a_user_error_whose_status_tells_input_from_machine(error):
    assert issubclass(error, errors.UserError)
    assert error.status == (1 if error in STATUS_1 else 2)


@pytest.mark.parametrize("error", [kind for kind in CLASSES if kind is not errors.UserError])
def test_no_kind_of_failure_is_a_kind_of_another(error):
    assert error.__bases__ == (errors.UserError,)
