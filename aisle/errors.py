"""Errors whose message names the thing, the value and the way out. The command prints them without a traceback.

What the command returns: 0 done, 1 a crash of ours, USERS a fault that stays until its user mends it (a wrong option too),
AGAIN one that may be gone at the next try. Airflow tries 1 and AGAIN again, and USERS never.
"""

from __future__ import annotations

from typing import Final

USERS: Final = 2  # as of a wrong option, by every command's custom
AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h


class AisleError(Exception):
    """A fault that its user can mend. `exit_code` is what the command returns."""

    exit_code = USERS


class SettingsError(AisleError):
    """conf/aisle.toml, a profile or an AISLE_ variable has a wrong key or value."""


class MissingPrerequisite(AisleError):
    """A program or file that must be there first is not."""


class PortTaken(AisleError):
    """Another process listens where a service of ours wants to."""


class ServiceFailed(AisleError):
    """A service did not come up, or went down."""

    exit_code = AGAIN


class BadFile(AisleError):
    """An imported file cannot be read as what it claims to be."""


class BadMapping(AisleError):
    """A mapping file has a wrong key, column or rule."""


class BatchRejected(AisleError):
    """A batch is above its fault threshold or breaks its schema; nothing of it was published."""


class NotThere(AisleError):
    """A user, item, version, decision or table that was asked for does not exist."""


class FeatureMismatch(AisleError):
    """A model and the feature service it names do not fit each other."""


class BundleRejected(AisleError):
    """A bundle does not match its manifest, or failed its smoke check."""


class GateBlocked(AisleError):
    """The gate refused, or could not judge: no metric, no promotion."""


class RaceLost(AisleError):
    """An alias or pointer moved while we were deciding on it; look again and repeat."""

    exit_code = AGAIN


class DiskFull(AisleError):
    """No room left where state is written."""

    exit_code = AGAIN


class TamperedRecord(AisleError):
    """A decision record was changed, dropped or put in after it was written."""


class TooLittleData(AisleError):
    """The data does not reach back far enough, or has too few rows, for what was asked."""


class BadModel(AisleError):
    """A trained model has weights or scores that are not finite; it is neither registered nor served."""


class TurnedAway(AisleError):
    """The API does not take a request on. `status` is what it answers, `kind` the end of the problem's type.

    retry_after: whole seconds until it is worth asking again; None where it never is.
    """

    status = 400
    kind = "bad-request"

    def __init__(self, detail: str, retry_after: int | None = None):
        super().__init__(detail)
        self.retry_after = retry_after


class TooDeep(TurnedAway):
    """A body whose arrays and objects nest deeper than serving.limits.max_json_depth."""


class NoKey(TurnedAway):
    """A request without a key, or with one that is unknown, expired or revoked."""

    status, kind = 401, "no-key"


class NotAllowed(TurnedAway):
    """A key that is good, but not for this."""

    status, kind = 403, "not-allowed"


class NoProof(TurnedAway):
    """A public key that asks for a user without a token that proves it is them. status: 401 for a token that is none."""

    status, kind = 403, "no-proof"

    def __init__(self, detail: str, status: int = 403):
        super().__init__(detail)
        self.status = status


class TooSlow(TurnedAway):
    """A body that did not come in time."""

    status, kind = 408, "too-slow"


class BodyTooLarge(TurnedAway):
    """A body above serving.limits.max_body_bytes."""

    status, kind = 413, "too-large"


class TooManyHeaders(TurnedAway):
    """More headers than serving.limits.max_headers, or longer ones than max_header_bytes."""

    status, kind = 431, "too-many-headers"


class TooMany(TurnedAway):
    """More requests of one key or address than its rate allows."""

    status, kind = 429, "too-many"


class Overloaded(TurnedAway):
    """More work than the API can do in time."""

    status, kind = 503, "overloaded"


class TooBusy(TurnedAway):
    """More rows wait than the disk can follow. Sent again with the same event_id they count once."""

    status, kind = 503, "busy"


class TooLarge(TurnedAway):
    """A body above writes.max_body_bytes, or more rows than writes.max_batch."""

    status, kind = 413, "too-large"


class AnotherQuestion(TurnedAway):
    """A further page of an answer was asked for with another question than its first page.

    faults: [{"where", "detail", "value"}], where: the field's name alone.
    """

    status, kind = 422, "invalid-request"

    def __init__(self, faults: list[dict]):
        super().__init__("; ".join(f"{fault['where']}: {fault['detail']}" for fault in faults))
        self.faults = faults


class BadRows(TurnedAway):
    """No row of a request is sound. faults: [{"where", "detail", "value"}], every one of every row."""

    status, kind = 422, "invalid-request"

    def __init__(self, detail: str, faults: list[dict]):
        super().__init__(detail)
        self.faults = faults
