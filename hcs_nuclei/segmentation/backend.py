"""Keras, imported once and without TensorFlow's start-up chatter on stderr."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

#: What TensorFlow 2.21 prints on every import, whatever its log level is set to: it comes before its logging starts.
_CHATTER = re.compile(
    rb"All log messages before absl::InitializeLog|oneDNN custom operations are on|"
    rb"This TensorFlow binary is optimized|To enable the following instructions|"
    rb"Could not find cuda drivers|Unable to register cu|computation_placer already registered"
)

#: Where Linux says what the processor can do.
CPUINFO = Path("/proc/cpuinfo")
#: What it prints where there is no GPU; where a driver is installed the same lines say that it does not work.
_NO_GPU = re.compile(rb"failed call to cuInit|Cannot dlopen some GPU libraries|Skipping registering GPU devices")


def import_keras() -> Any:
    """The ``keras`` module on its configured backend; what it says that matters is passed on to stderr."""
    if "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # Else the first process on a GPU takes all of its memory, and a training beside the workers finds none.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        with _without_chatter():
            import keras

            if keras.backend.backend() == "tensorflow":
                gpu_visible()  # looks for devices now, which is when it says that there are none
    return sys.modules["keras"]


def gpu_visible() -> bool:
    """Whether TensorFlow has a GPU to work on."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def bfloat16_pays() -> bool:
    """Whether training in mixed bfloat16 is faster here: on a GPU, or on a processor with units for it (AMX).

    With AVX-512 alone, its bfloat16 instructions included, a training step took 1.5 times as long as in float32.
    """
    keras = import_keras()
    backend = keras.backend.backend()
    if backend == "tensorflow":
        on_gpu = gpu_visible()
    elif backend == "torch":
        on_gpu = bool(import_module("torch").cuda.is_available())
    else:
        on_gpu = import_module("jax").default_backend() == "gpu"
    return on_gpu or _has_amx()


def _has_amx() -> bool:
    try:
        return re.search(r"^flags\s*:.*\bamx_bf16\b", CPUINFO.read_text(encoding="utf-8"), re.MULTILINE) is not None
    except OSError:  # not Linux
        return False


@contextmanager
def _without_chatter() -> Iterator[None]:
    """File descriptor 2 goes to a file for the while; every line of it but known chatter is then passed on."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        try:
            os.dup2(caught.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            has_driver = shutil.which("nvidia-smi") is not None
            for line in caught:
                if not (_CHATTER.search(line) or (not has_driver and _NO_GPU.search(line))):
                    os.write(2, line)
