"""Exceptions that user input can cause, each with a stable error code.

Every class also inherits the built-in that a caller would expect, so ``except ValueError`` and
``except FileNotFoundError`` keep working. Messages state the rule, the value and the remedy in
one line; :func:`explain` puts the code in front.
"""

from esp_medsam.errors.kinds import (
    CheckpointError,
    CheckpointHashError,
    CheckpointMismatchError,
    ClusterError,
    CorruptFileError,
    DecodeCrashError,
    DeviceError,
    DiskFullError,
    DivergedError,
    EmptyInputError,
    EspMedSamError,
    FormatError,
    GeometryError,
    InputChangedError,
    InputNotFoundError,
    LockedError,
    ModalityConflictError,
    ModalityError,
    NameClashError,
    NetworkOutputError,
    NonFiniteError,
    OptionError,
    OutputError,
    OutputExistsError,
    PacsAccessError,
    PacsError,
    PacsIncompleteError,
    PacsRefusedError,
    ReadError,
    RuntimeCheckError,
    TableError,
    TargetError,
    TimeUpError,
    TooLargeError,
    WeightsNotFoundError,
    WorkerDiedError,
    check_one_of,
    not_found,
    one_of,
)
from esp_medsam.errors.remedies import Remedy, remedies
from esp_medsam.errors.telling import (
    cause_of,
    chain_of,
    explain,
    install_excepthook,
    own_error,
    own_errors,
    says_out_of_memory,
)
from esp_medsam.errors.wording import (
    listed,
    one_line,
    quoted,
)
