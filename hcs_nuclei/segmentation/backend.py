"""Keras, imported once and without TensorFlow's start-up chatter on stderr."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from typing import Any

#: What TensorFlow 2.21 prints on every import, whatever its log level is set to: it comes before its logging starts.
_CHATTER = re.compile(
    rb"All log messages before absl::InitializeLog|oneDNN custom operations are on|"
    rb"This TensorFlow binary is optimized|To enable the following instructions|"
    rb"Could not find cuda drivers|Unable to register cu|computation_placer already registered"
)


def import_keras() -> Any:
    """The ``keras`` module on its configured backend.

    While it is imported for the first time, file descriptor 2 goes to a file; every line of it but the known chatter is
    then passed on, so that nothing that matters is lost.
    """
    if "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        sys.stderr.flush()
        kept = os.dup(2)
        with tempfile.TemporaryFile() as caught:
            try:
                os.dup2(caught.fileno(), 2)
                import keras  # noqa: F401
            finally:
                os.dup2(kept, 2)
                os.close(kept)
                caught.seek(0)
                for line in caught:
                    if not _CHATTER.search(line):
                        os.write(2, line)
    return sys.modules["keras"]
