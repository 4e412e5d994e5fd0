"""What can go wrong, said once: exceptions for runs, codes for rows.

    MedrayError                 a run cannot go on; one clear message, exit code 1
     ├─ UsageError              the spec or the arguments are wrong; exit code 2
     │   ├─ SpecError           the spec: every problem at once, with file:line
     │   └─ OutputConflictError the output folder already holds something else
     ├─ DataError               the data cannot support this run
     │   └─ LeakError           a subject or an identical image stands in two splits
     ├─ PackageError            a package is incomplete, altered or fails its self-test
     ├─ TrainingError           training cannot go on (e.g. the loss is not finite)
     └─ ServiceError            a service cannot be reached, or refuses what it is asked
    RejectError                 one row is bad; caught at the row boundary, never ends a run

Owns the vocabulary of failure. Imports nothing of medray, torch or ray.
"""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable reject codes: the `reason` column of every table. Never renumber, never reuse."""

    # the file
    NOT_DICOM = "not_dicom"  # no DICM at byte 128 and not an image: ignored and counted
    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"  # the operating system or object store refused
    NOT_REGULAR_FILE = "not_regular_file"  # FIFO, socket, device, link
    ARCHIVE_UNSAFE = "archive_unsafe"  # ZIP: nested, encrypted, expands past the limit, bad path
    # the header
    TRUNCATED = "truncated"  # ends inside the header or the pixel data
    HEADER_INVALID = "header_invalid"  # cannot be parsed as DICOM
    MISSING_ATTRIBUTE = "missing_attribute"  # a type 1 attribute of the image pixel module
    INVALID_ATTRIBUTE = "invalid_attribute"  # present but impossible
    NOT_AN_IMAGE = "not_an_image"  # SR, PR, KO, RTSTRUCT, DICOMDIR, ...: indexed, never decoded
    DERIVED_OBJECT = "derived_object"  # SEG, parametric map, RT dose: pixels that are not a picture
    NO_PIXEL_DATA = "no_pixel_data"  # an image object whose pixels are absent
    DUPLICATE_INSTANCE = "duplicate_instance"  # same SOP Instance UID as a file already taken
    # the pixels
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    UNSUPPORTED_PHOTOMETRIC = "unsupported_photometric"
    UNSUPPORTED_DEPTH = "unsupported_depth"
    TOO_LARGE = "too_large"  # decoded size past the limit
    SIZE_MISMATCH = "size_mismatch"  # bytes, codestream and header disagree on the picture's size
    FRAME_MISMATCH = "frame_mismatch"  # NumberOfFrames is not what is there
    DECODE_FAILED = "decode_failed"  # the codec refused
    DECODE_CRASHED = "decode_crashed"  # the codec took its process down
    DECODE_TIMEOUT = "decode_timeout"  # the codec passed its CPU deadline
    # a row of a table
    # no JSON object or FHIR resource, not UTF-8, too long, or of other columns than its header
    UNREADABLE_ROW = "unreadable_row"
    NO_SUBJECT = "no_subject"  # the row names no patient
    NO_CODE = "no_code"  # the row names no code
    INVALID_TIME = "invalid_time"  # neither empty nor a time
    TIME_BEFORE_BIRTH = "time_before_birth"
    NO_TIME = "no_time"  # what happens at some time, without one: not to be known from the start
    INVALID_VALUE = "invalid_value"  # infinite, or no number where one must stand
    UNSUPPORTED_VALUE = "unsupported_value"  # neither a number nor a text: a curve, a ratio
    IMPLAUSIBLE_VALUE = "implausible_value"  # outside the range the spec gives for the code
    WRONG_UNIT = "wrong_unit"  # another unit than the code's, and no conversion
    DUPLICATE_EVENT = "duplicate_event"  # the same subject, time, code and value once more
    MISSING_VALUE = "missing_value"  # the source's word for "not measured": left out, counted
    NOT_A_FACT = "not_a_fact"  # by its own status: entered in error, cancelled, refuted, planned
    # a molecule
    NO_STRUCTURE = "no_structure"  # the row names none
    INVALID_STRUCTURE = "invalid_structure"  # no SMILES or MOL block that RDKit reads
    IMPOSSIBLE_VALENCE = "impossible_valence"  # read, but an atom binds more than it can
    METAL = "metal"  # holds a metal after salts were left off
    TOO_MANY_ATOMS = "too_many_atoms"  # past the spec's limit: no small molecule
    NO_ATOMS = "no_atoms"  # nothing is left of it
    DUPLICATE_MOLECULE = "duplicate_molecule"  # the same standard form once more
    # the task
    NO_LABEL = "no_label"  # no row of the label table matches
    UNEXPECTED_SHAPE = "unexpected_shape"  # the package does not take such an item
    NOT_SELECTED = "not_selected"  # the spec's `select` leaves it out
    NO_HISTORY = "no_history"  # no event that the model reads, up to the prediction time
    NOT_FINITE = "not_finite"  # the model answered NaN or infinity


class RejectError(Exception):
    """One row is refused, with a stable code.

    `detail` is for people and must never carry a patient's value or a path.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail


class MedrayError(Exception):
    """A run cannot go on. `remedy` says what the reader can do about it."""

    exit_code = 1

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(f"{what}\n  → {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class UsageError(MedrayError):
    """The command line or the spec asks for something that cannot be."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a spec, with where it stands."""

    where: str  # "file.yaml:12" or "--set"
    key: str  # dotted path
    what: str
    hint: str = ""

    def __str__(self) -> str:
        line = ": ".join(part for part in (self.where, self.key, self.what) if part)
        return f"{line} ({self.hint})" if self.hint else line


class SpecError(UsageError):
    """A spec with one or more mistakes; all of them are listed."""

    def __init__(self, problems: list[Problem]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the spec"
        super().__init__("\n".join([f"{count}:", *(f"  {problem}" for problem in problems)]))
        self.problems = problems


class OutputConflictError(UsageError):
    """The output folder holds something that this run did not make."""


class DataError(MedrayError):
    """The data cannot support this run: nothing readable, no label matches, a split is empty."""


class LeakError(DataError):
    """A subject or an identical image stands in more than one split."""


class PackageError(MedrayError):
    """A package is incomplete, altered, or does not reproduce its own self-test."""


class TrainingError(MedrayError):
    """Training cannot go on."""


class ServiceError(MedrayError):
    """A service cannot be reached, or refuses what it is asked.

    status      of its answer; None where there is none.
    kind        of the problem, as its document names it.
    request_id  finds the request in the service's log and audit.
    """

    def __init__(
        self,
        what: str,
        *,
        remedy: str = "",
        status: int | None = None,
        kind: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(f"{what} (request {request_id})" if request_id else what, remedy=remedy)
        self.status, self.kind, self.request_id = status, kind, request_id
