"""A training so small that a test can run it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.training import FitSettings

SETTINGS = FitSettings(
    architecture="tiny",
    epochs=2,
    batches_per_epoch=5,  # enough for their order to be another wherever it is not fixed
    batch=2,
    crop_px=64,
    learning_rate=3e-3,
    warmup_batches=1,
    decay_epochs=1,
    precision="float32",
)


def weights_of(network: Any) -> list[npt.NDArray[np.float32]]:
    return [np.asarray(variable.value) for variable in network.variables]
