"""Why a reply is refused: values with a code, which the ledger counts by."""

from enum import StrEnum

from ..errors import WireError


class Refusal(StrEnum):
    """The reasons for which a reply changes nothing."""

    OTHER_ROUND = "other round"
    DUPLICATE = "duplicate"
    UNSOLICITED = "unsolicited"
    FOREIGN_KEY = "foreign key"
    DUPLICATE_KEY = "duplicate key"
    UNKNOWN_KEY = "unknown key"
    FOREIGN_BASE = "foreign base"
    ILLEGAL_SKIP = "illegal skip"
    ILLEGAL_INNOVATION = "illegal innovation"
    BAD_HEADER = "bad header"
    BAD_BUFFERS = "bad buffers"
    UNDECODABLE = "undecodable"
    TOO_LONG = "too long"
    EMPTY = "empty"
    FAILURE = "failure"
    MALFORMED = "malformed"
    NO_MODEL = "no model"


class RefusedReply(WireError):
    """A reply that changes nothing.

    Attributes
    ----------
    reason : Refusal
        Why.
    """

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
