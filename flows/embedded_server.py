"""A listening socket in, Prefect's API on it until the process that handed it over is gone: ``python -m`` runs this.

Prefect's own embedded server dies of the Ctrl-C that is meant for its parent, prints into its parent's terminal, and
stays for ever where the parent is killed. This one has a session, a log and a lifeline (its standard input) of its own.
"""

from __future__ import annotations

import socket
import sys
from threading import Thread

import uvicorn

from hcs_nuclei.logs import json_wanted


def main(descriptor: int) -> None:
    """Serve on an inherited listening socket; ends when standard input is closed."""
    config = uvicorn.Config(
        "prefect.server.api.server:create_app",
        factory=True,
        lifespan="on",
        log_level="error",
        # In JSON, Prefect's handlers are ours, and uvicorn's would be in text.
        log_config=None if json_wanted() else uvicorn.config.LOGGING_CONFIG,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)

    def end_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    Thread(target=end_with_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(int(sys.argv[1]))
