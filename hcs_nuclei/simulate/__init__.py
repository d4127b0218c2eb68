"""Plates with known truth, in the vendors' own layouts: for the demo, tests and benchmarks."""

from hcs_nuclei.simulate.cells import Phenotype
from hcs_nuclei.simulate.fields import SimulatedField, SimulatedNucleus, simulate_field
from hcs_nuclei.simulate.plate import PLATE_LAYOUTS, SimulatedPlate, simulate_plate

__all__ = [
    "PLATE_LAYOUTS",
    "Phenotype",
    "SimulatedField",
    "SimulatedNucleus",
    "SimulatedPlate",
    "simulate_field",
    "simulate_plate",
]
