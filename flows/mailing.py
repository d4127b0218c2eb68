"""A night in, a mail out: a line a plate, with faults and links, by an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from flows.night import Line, Night
from flows.notify_settings import Mail
from flows.status_page import links, table
from hcs_nuclei.errors import RunFailedError, SettingsError

_TIMEOUT_S = 60.0
_STYLE = "body{font:14px sans-serif}th,td{text-align:left;vertical-align:top;padding:.3em 1em .3em 0}"


def compose(mail: Mail, night: Night, now: datetime, *, prefect: str = "") -> EmailMessage:
    """The mail about a night, as text and as HTML.

    Args:
        now: with the time zone in which times are said.
        prefect: address of Prefect's web page.
    """
    message = EmailMessage()
    message["Subject"] = f"Plates since {night.evening:%A %H:%M}: {night.counts}"
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.to)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=mail.sender.partition("@")[2])
    ends = f"{night.counts}. Looked at {now:%Y-%m-%d %H:%M %Z}."
    message.set_content(f"{ends}\n\n{_text(night.recent, prefect)}\n")
    message.add_alternative(
        f"<!doctype html><html><head><style>{_STYLE}</style></head><body><p>{ends}</p>"
        f"{table(night.recent, now, prefect)}</body></html>",
        subtype="html",
    )
    return message


def _text(lines: Sequence[Line], prefect: str) -> str:
    return "\n".join(_line(line, prefect) for line in lines) or "None."


def _line(line: Line, prefect: str) -> str:
    text = f"{line.state}: {line.entry.plate}{f' - {line.text}' if line.text else ''}"
    return "  ".join([text, *(f"{name} {to}" for name, to in links(line.entry, prefect).items())])


def send(mail: Mail, message: EmailMessage, password: str) -> None:
    """Hand a mail over to the server that the settings name.

    Raises:
        SettingsError: the server does not take the user, the password or an address.
        RunFailedError: it was not reached, or the mail was not taken.
    """
    place = f"{mail.host}:{mail.port}"
    context = ssl.create_default_context()
    try:
        with (
            smtplib.SMTP_SSL(mail.host, mail.port, timeout=_TIMEOUT_S, context=context)
            if mail.tls == "tls"
            else smtplib.SMTP(mail.host, mail.port, timeout=_TIMEOUT_S)
        ) as server:
            if mail.tls == "starttls":
                server.starttls(context=context)
            if mail.user is not None:
                server.login(mail.user, password)
            refused = server.send_message(message)
    except smtplib.SMTPAuthenticationError as error:
        raise SettingsError(
            f"The mail server {place} does not take the user and password ({error.smtp_code})."
        ) from None
    except smtplib.SMTPRecipientsRefused as error:
        raise SettingsError(f"The mail server {place} takes no mail to {', '.join(error.recipients)}.") from None
    except (smtplib.SMTPException, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RunFailedError(f"The mail was not sent by {place} ({reason}).") from None
    if refused:
        raise SettingsError(f"The mail server {place} takes no mail to {', '.join(refused)}; the others have it.")
