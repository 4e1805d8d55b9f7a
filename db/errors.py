"""What can be wrong with the ledger, as exceptions whose text a person can act on."""


class LedgerError(Exception):
    """Base of every error of the ledger; its message is meant for the user, whole and in one line."""

    exit_status = 2


class DatabaseUnavailable(LedgerError):
    """Raised when the database does not answer, or is not one the ledger can live in."""


class SchemaTooNew(LedgerError):
    """Raised when the ledger was made by a newer release than this one."""


class RunNotFound(LedgerError):
    """Raised when no run has the number that was asked for."""


class RunNotScanned(LedgerError):
    """Raised when work is to go on with a run of which not all files are known."""


class ModelNotFound(LedgerError):
    """Raised when no model has the version that was asked for."""


class ModelNameTaken(LedgerError):
    """Raised when a model is to have the name of another that was deleted, which runs or trainings bear."""


class DeletionRefused(LedgerError):
    """Raised when what is to be deleted is in use."""


class TrainingNotFound(LedgerError):
    """Raised when no training has the number that was asked for."""


class TrainingNotResumable(LedgerError):
    """Raised when a training that is done, or still running, is to be resumed."""
