"""The scheduled flow that mails what happened last night, once; ``mail:`` in ``notify.yaml`` says to whom."""

from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from time import sleep
from typing import cast

from prefect import flow
from prefect.blocks.system import Secret
from prefect.logging import get_run_logger
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict, Field

from flows.endings import ends_in_words
from flows.ledger import read_entries
from flows.mailing import compose, send
from flows.night import last_night
from flows.notify_settings import CONFIGURATION, Mail, in_variable, read_notify
from flows.roots import check_roots
from flows.server import web_page
from hcs_nuclei.errors import RunFailedError, SettingsError
from hcs_nuclei.files import replace_file

RETRY_AFTER_S = (60.0, 300.0)


class MailDigestParameters(BaseModel):
    """Of which service, and whether again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: str = Field(
        min_length=1, title="Service directory", description="With its ledger, and notify.yaml, which has mail:."
    )
    again: bool = Field(default=False, title="Again", description="Mail a night that was mailed before.")


@flow(name="mail-digest", flow_run_name="mail", retries=0, persist_result=False)
@ends_in_words
def mail_digest(parameters: MailDigestParameters) -> str:
    """Mail what happened last night, a line a plate; a night that was mailed is not mailed again by itself."""
    check_roots([("Service directory", parameters.state)])
    state = Path(parameters.state)
    notify = read_notify(state)
    if notify.mail is None:
        raise SettingsError(f"{state / CONFIGURATION} says nothing under mail: to whom, from whom, by which server.")
    now = datetime.now(UTC).astimezone(notify.zone)
    night = last_night(read_entries(state), now)
    mailed = state / "told" / "mailed"
    this = night.evening.date().isoformat()
    if not parameters.again and mailed.exists() and mailed.read_text() == this:
        return _completed(f"The night of {this} was mailed before.")
    _send(notify.mail, compose(notify.mail, night, now, prefect=web_page()), _password(notify.mail))
    mailed.parent.mkdir(exist_ok=True)
    replace_file(mailed, this.encode())
    return _completed(f"Mailed to {', '.join(notify.mail.to)}: {night.counts}")


def _completed(message: str) -> str:
    return cast(str, Completed(message=message, data=message))


def _send(mail: Mail, message: EmailMessage, password: str) -> None:
    """Send it, and again where the server did not answer or not take it; Prefect retries no run that ends in words."""
    for wait_s in RETRY_AFTER_S:
        try:
            send(mail, message, password)
            return
        except RunFailedError as error:
            get_run_logger().warning("%s It is tried again in %.0f s.", error, wait_s)
            sleep(wait_s)
    send(mail, message, password)


def _password(mail: Mail) -> str:
    """From where ``notify.yaml`` says that it is: neither there nor in any log.

    Raises:
        SettingsError: it is not there.
    """
    if mail.password is None:
        return ""
    if mail.password.startswith("secret/"):
        try:
            secret = Secret.load(mail.password.removeprefix("secret/"))
            assert isinstance(secret, Secret)  # and no promise of one, as in an event loop
            return str(secret.get())
        except ValueError:
            raise SettingsError(f"Prefect's server has no {mail.password}, which {CONFIGURATION} names.") from None
    if not (password := in_variable(mail.password)):
        raise SettingsError(f"The variable {mail.password} is not set, which {CONFIGURATION} names.")
    return password
