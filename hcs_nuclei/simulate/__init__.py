"""Plates with known truth, in the vendors' own layouts: for the demo, tests and benchmarks."""

from hcs_nuclei.simulate.cells import Phenotype
from hcs_nuclei.simulate.fields import SimulatedField, SimulatedNucleus, simulate_field

__all__ = ["Phenotype", "SimulatedField", "SimulatedNucleus", "simulate_field"]
