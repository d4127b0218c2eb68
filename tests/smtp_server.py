"""A mail server on loopback: enough of SMTP for one client at a time, with TLS and a password if they are asked."""

from __future__ import annotations

import base64
import ssl
import subprocess
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer
from typing import cast

from flow_server import InThread


class MailServer(InThread):
    """What was sent to it: envelopes (sender, recipients) and messages, and which were said over TLS.

    `user` with `password` must log in; mail to `refused` is not taken; `status` is the answer to a mail.
    """

    def __init__(self, certificate: Path | None = None, *, wrapped: bool = False, login: str = "") -> None:
        self.messages: list[EmailMessage] = []
        self.envelopes: list[tuple[str, tuple[str, ...]]] = []
        self.over_tls: list[bool] = []
        self.login, self.refused, self.status = login, "", "250 taken"
        self.context: ssl.SSLContext | None = None
        if certificate is not None:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(certificate)
        mail = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                _talk(mail, self, wrapped)

        class Server(TCPServer):
            def handle_error(self, *_: object) -> None:
                """A client that does not trust the certificate hangs up."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


def make_certificate(folder: Path) -> Path:
    """A certificate of localhost with its key, in one file."""
    key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


def _talk(mail: MailServer, handler: StreamRequestHandler, wrapped: bool) -> None:
    line, stream, tls = handler.connection, None, wrapped
    if wrapped:
        assert mail.context is not None
        line = mail.context.wrap_socket(line, server_side=True)
    stream = line.makefile("rwb")

    def say(*lines: str) -> None:
        stream.write("".join(f"{text}\r\n" for text in lines).encode())
        stream.flush()

    say("220 localhost")
    sender, recipients, known = "", [], not mail.login
    while words := stream.readline().decode().strip():
        command = words.upper()
        if command.startswith("EHLO"):
            starttls = [] if tls or mail.context is None else ["250-STARTTLS"]
            say("250-localhost", *starttls, "250 AUTH PLAIN" if mail.login else "250 8BITMIME")
        elif command == "STARTTLS":
            assert mail.context is not None
            say("220 go ahead")
            stream.close()
            line = mail.context.wrap_socket(line, server_side=True)
            stream, tls = line.makefile("rwb"), True
        elif command.startswith("AUTH PLAIN"):
            given = base64.b64decode(words.split()[2]).decode().split("\0")[1:]
            known = ":".join(given) == mail.login
            say("235 welcome" if known else "535 no")
        elif command.startswith("MAIL FROM"):
            sender, recipients = words[10:].partition(">")[0].strip("<"), []
            say("250 ok" if known else "530 who are you")
        elif command.startswith("RCPT TO"):
            to = words[8:].partition(">")[0].strip("<")
            recipients += [to] if to != mail.refused else []
            say("250 ok" if to != mail.refused else "550 nobody")
        elif command == "DATA":
            say("354 go on")
            body = bytearray()
            while (part := stream.readline()) != b".\r\n":
                body += part[1:] if part.startswith(b"..") else part
            if mail.status.startswith("250"):
                mail.messages.append(cast(EmailMessage, message_from_bytes(bytes(body), policy=policy.default)))
                mail.envelopes.append((sender, tuple(recipients)))
                mail.over_tls.append(tls)
            say(mail.status)
        elif command == "QUIT":
            say("221 bye")
            break
        else:
            say("250 ok")
    stream.close()
    line.close()
