"""``hcs-nuclei``: every command, and what each kind of error means to a shell.

Exit status: 0 done; 3 done, with fields missing, unreadable or failed; 2 a wrong call, nothing written; 130 after
Ctrl-C; 1 otherwise. Data goes to stdout, progress and messages to stderr.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer

from hcs_nuclei.cli import annotate, audit, automations, benchmark, images, models, plates, process, serve, train
from hcs_nuclei.cli.messages import tell, tell_error, tell_fault
from hcs_nuclei.errors import HcsNucleiError, UserError
from hcs_nuclei.logs import set_up_logs

#: A place that was named and cannot be looked at; where a run can no longer write, it says so itself.
_PATH_ERRORS = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}

app = typer.Typer(
    name="hcs-nuclei",
    help="Batch high-content screening of cell nuclei: plate directories in, label images and tables out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
plates.register(app)
process.register(app)
images.register(app)
train.register(app)
serve.register(app)
automations.register(app)
models.register(app)
annotate.register(app)
benchmark.register(app)
audit.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    try:
        set_up_logs()
        status = _run(None if arguments is None else list(arguments))
        sys.stdout.flush()
    except UserError as error:
        tell_error(error)
        return 2
    except HcsNucleiError as error:
        tell_error(error)
        return 1
    except BrokenPipeError:
        # A reader such as `head` that has seen enough: no message, and none from Python's own flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno in _FULL:
            tell_error(
                f"{error.filename or 'A disk'}: {error.strerror}. Free space, then start the same command again."
            )
            return 1
        if error.errno not in _PATH_ERRORS or error.filename is None:
            raise
        tell_error(f"{error.filename}: {error.strerror}. Mend the permission, or name another place.")
        return 2
    except Exception as error:
        if tell_fault(error):
            return 1
        raise
    if status == 130:
        again = "start the same command again to go on"
        if "--overwrite" in (sys.argv if arguments is None else arguments):
            again += ", without --overwrite"
        tell(f"hcs-nuclei: stopped. What is finished is kept; {again}.")
    return status


def _run(arguments: list[str] | None) -> int:
    """The status that Typer would leave the process with; it says itself what is wrong with the arguments."""
    try:
        app(args=arguments, prog_name="hcs-nuclei")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
