"""Models into the store, and which of them is the default: moved by one rename, with its history, and on the record.

A version in the store is never written again. What runs in progress use is untouched by any of this: a run resolves its
model to a sha256 once, and that version stays where it is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcs_nuclei.audit import Entry, write_audit
from hcs_nuclei.errors import ModelError, OutputError, RunConflictError
from hcs_nuclei.files import replace_file, sweep, temporary_path, write_synced
from hcs_nuclei.models.card import CARD_FILE, ModelCard, load_network, parse_card, read_card
from hcs_nuclei.models.store import (
    CURRENT_FILE,
    SHIPPED,
    Current,
    Promotion,
    promoted_model,
    read_current,
    resolve_model,
    store_directory,
)

#: What goes into the store beside card and weights, where a training has left it.
_COMPANIONS = ("report.html", "history.json")


def add_model(source: Path) -> tuple[Path, ModelCard]:
    """Copy a model into the store, verified; one that is there already is left as it is.

    Args:
        source: a model directory.

    Returns:
        Its directory in the store, and its card.

    Raises:
        ModelError: no model, weights that do not match their card, or one of the same content there that is damaged.
        OutputError: the store cannot be written.
    """
    with _locked():
        return _add(source)


def promote(
    wanted: str, *, reason: str = "", instead_of: str | None = None, judged: str | None = None, by: str = ""
) -> Entry | None:
    """Make a model the default, after it was copied into the store and shown to load.

    The shipped model is copied as well, if it is promoted: it then stays the default when a newer one is shipped.

    Args:
        wanted: as :func:`hcs_nuclei.models.resolve_model` takes it.
        reason: stands in the pointer's history and in the audit log.
        instead_of: sha256 of the default that it was judged against; where another is it by now, nothing moves.
        judged: sha256 of the model that was judged; where `wanted` has become another since, nothing moves.
        by: who asked for it, where a service acts for somebody.

    Returns:
        What stands in the audit log; None where it is the default already.

    Raises:
        ModelError: no such model, it cannot be used, or the pointer cannot be read.
        RunConflictError: the default is not the one that it was judged against, or it is not what was judged.
        OutputError: the store or the audit log cannot be written.
    """
    directory, card = resolve_model(wanted)
    load_network(directory, card)  # a default that no worker can load would stop every plate
    with _locked():
        current = read_current()
        _, card = _add(directory)
        if judged is not None and card.sha256 != judged:
            raise RunConflictError(
                f"{directory} holds {card.name} ({card.identifier}) now, which is not the model that was judged. "
                "Compare it with the default (hcs-nuclei models compare), then promote it by hand."
            )
        if instead_of is not None and instead_of != resolve_model()[1].sha256 != card.sha256:
            raise RunConflictError(
                f"{card.name} ({card.identifier}) was judged against another model than the default, which is now "
                f"{_in_words(current)}. Compare the two (hcs-nuclei models compare), then promote it by hand."
            )
        if current.promotions and current.promotions[-1].sha256 == card.sha256:
            return None
        new = f"{card.name} ({card.identifier})"
        old = _in_words(current)
        entry = write_audit("model.promote", "default model", old=old, new=new, reason=reason, by=by)
        step = Promotion(sha256=card.sha256, name=card.name, when=entry.when, who=entry.who, reason=reason)
        _point(Current(promotions=(*current.promotions, step)))
    return entry


def rollback(*, reason: str = "") -> Entry:
    """Make the model the default that was so before the last promotion; the shipped one before the first.

    Raises:
        ModelError: none was promoted, or the model to go back to cannot be used.
        OutputError: the store or the audit log cannot be written.
    """
    with _locked():
        current = read_current()
        if not current.promotions:
            raise ModelError("There is no step to go back: no model was promoted, and the default is the shipped one.")
        before = Current(promotions=current.promotions[:-1])
        if before.promotions:
            promoted_model(before.promotions[-1])  # or it raises
        entry = write_audit(
            "model.rollback", "default model", old=_in_words(current), new=_in_words(before), reason=reason
        )
        _point(before)
    return entry


def _add(source: Path) -> tuple[Path, ModelCard]:
    card = read_card(source)
    target = store_directory() / card.identifier
    if target.exists():
        _check_stored(target, card)
        return target, card
    unfinished = temporary_path(target)
    try:
        unfinished.mkdir()
        for name in (CARD_FILE, card.weights.file, *_COMPANIONS):
            if (source / name).is_file():
                write_synced(unfinished / name, (source / name).read_bytes())
                (unfinished / name).chmod(0o444)
        copied = read_card(unfinished)
        if copied.sha256 != card.sha256:
            raise ModelError(f"{source} changed while it was copied. Give the command again when nothing writes there.")
        os.rename(unfinished, target)
    except OSError as error:
        raise OutputError(f"The model store {store_directory()} cannot be written: {error.strerror}.") from None
    finally:
        if unfinished.exists():
            shutil.rmtree(unfinished)
    return target, copied


def _check_stored(directory: Path, card: ModelCard) -> None:
    try:
        found = read_card(directory).sha256
    except ModelError as error:
        found = str(error)
    if found != card.sha256:
        raise ModelError(
            f"{directory} should hold {card.name} ({card.identifier}), and does not: found {found}. Move it away, and "
            "give the command again."
        )


@contextmanager
def _locked() -> Iterator[None]:
    """One process at a time; whoever holds it alone may remove what a killed one left."""
    store = store_directory()
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = os.open(store / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    except OSError as error:
        raise OutputError(f"The model store {store} cannot be written: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(store)
        yield
    finally:
        os.close(lock)


def _point(current: Current) -> None:
    path = store_directory() / CURRENT_FILE
    try:
        replace_file(path, (current.model_dump_json(indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}. The default is as it was, whatever the audit log says last."
        ) from None


def _in_words(current: Current) -> str:
    if current.promotions:
        return str(current.promotions[-1])
    card = parse_card(SHIPPED)
    return f"{card.name} ({card.identifier}), shipped"
