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
