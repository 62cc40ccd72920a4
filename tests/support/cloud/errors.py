"""How Google's services say no."""

from __future__ import annotations

STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
"""HTTP status by the canonical code's name."""

CODE = {
    "CANCELLED": 1,
    "INVALID_ARGUMENT": 3,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}
"""The number in `google.rpc.Status` by the canonical code's name."""


class Refused(Exception):
    """An error reply: a canonical code's name and the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.code]

    def body(self) -> dict[str, object]:
        """The reply in Google's form."""
        details = [{"message": self.message, "domain": "global", "reason": self.code}]
        return {"error": {"code": self.status, "message": self.message, "status": self.code, "errors": details}}


def invalid(message: str) -> Refused:
    """INVALID_ARGUMENT."""
    return Refused("INVALID_ARGUMENT", message)


def not_found(message: str) -> Refused:
    """NOT_FOUND."""
    return Refused("NOT_FOUND", message)
