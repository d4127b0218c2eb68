"""The tree of errors, each of which says what was found, what was expected and what to do next; and how they list.

::

    HcsNucleiError
    ├── UserError                 a wrong call, refused before anything is written (exit status 2)
    │   ├── NotAPlateError            (ValueError)   the directory is not a plate that we can read
    │   ├── ChannelError              (ValueError)   no such channel, or the choice is ambiguous
    │   ├── SettingsError             (ValueError)   a recipe, option or environment variable is wrong
    │   ├── OutputError               (OSError)      the output place cannot be used
    │   ├── RunConflictError          (ValueError)   the run directory holds other settings, model or input
    │   ├── ModelError                (ValueError)   a model is missing or does not match its card
    │   ├── LayoutError               (ValueError)   a plate layout or a list of barcodes does not fit the plate
    │   ├── ClusterError              (RuntimeError) no worker fits, or the cluster cannot be reached
    │   └── DatasetError              (ValueError)   annotations cannot be used as they are
    │       └── NothingAnnotatedError                 there are none of those that were asked for
    ├── ProfileError              (ValueError)   no instrument lights a field like that; costs the correction
    ├── PlaneError                (OSError)      one plane is missing, unreadable or truncated
    └── RunFailedError            (RuntimeError) a run could not go on; what is finished is kept (exit status 1)
"""

from __future__ import annotations

from collections.abc import Iterable


class HcsNucleiError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(HcsNucleiError):
    """A call that cannot be carried out as it stands; nothing has been written."""


class NotAPlateError(UserError, ValueError):
    """The directory is not recognised as a plate, or holds no images."""


class ChannelError(UserError, ValueError):
    """The nuclear channel is not there, or cannot be chosen without being told."""


class SettingsError(UserError, ValueError):
    """A recipe file, an option or an ``HCS_NUCLEI_*`` variable does not hold a valid setting."""


class OutputError(UserError, OSError):
    """The output directory is a file, is not writable, or belongs to something else."""


class RunConflictError(UserError, ValueError):
    """The run directory was made with other settings, another model or another input."""


class ModelError(UserError, ValueError):
    """A model cannot be found, or its files do not match its card."""


class LayoutError(UserError, ValueError):
    """A plate layout or a list of barcodes cannot be read, or does not fit the plate."""


class ClusterError(UserError, RuntimeError):
    """The Dask cluster cannot be reached, or none of its workers can do the work."""


class DatasetError(UserError, ValueError):
    """An annotated data set cannot be used; the message lists all of its faults."""


class NothingAnnotatedError(DatasetError):
    """A data set holds no annotated images, or none of the split or modality that was asked for."""


class ProfileError(HcsNucleiError, ValueError):
    """An illumination profile that cannot be had or believed; its channel is left as it is, and that is said."""


class PlaneError(HcsNucleiError, OSError):
    """One plane cannot be read; costs its field, never its well or plate.

    `fault` is the kind in one word, the same in all reports: ``missing``, ``zero-byte``, ``truncated``,
    ``wrong-size`` or ``wrong-type`` (no image, or an image of another kind than a plane is).
    """

    def __init__(self, message: str, *, fault: str = "wrong-type") -> None:
        super().__init__(message)
        self.fault = fault


class RunFailedError(HcsNucleiError, RuntimeError):
    """A run could not go on (a full disk, a lost cluster); what is finished is kept, a second start goes on."""


def listed(items: Iterable[object], most: int = 8) -> str:
    """At most `most` items as messages name them: ``A01, A02 and 4 more``."""
    words = [str(item) for item in items]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def reason_of(error: Exception) -> str:
    """Why something failed, in one line; an error that is not of ours is named by its kind."""
    kind = "" if isinstance(error, HcsNucleiError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())
