"""The assay recipe: every setting that changes a result.

Settings come from defaults < recipe file (YAML) < ``HCS_NUCLEI_*`` < options. What does not change a result
(cluster, number of workers, overwrite) is not a setting and never part of the fingerprint.
"""

from hcs_nuclei.settings.aggregation import AggregationSettings, CallSettings, GateSettings
from hcs_nuclei.settings.export import ExportSettings
from hcs_nuclei.settings.groups import IlluminationSettings, OutputSettings, SegmentationSettings
from hcs_nuclei.settings.loading import ENV_PREFIX, load_settings, read_yaml
from hcs_nuclei.settings.measurement import FeatureGroup, MeasurementSettings
from hcs_nuclei.settings.qc import QcSettings
from hcs_nuclei.settings.recipe import NO_RESULT, WHEN_FINISHED, Settings
from hcs_nuclei.settings.statistics import StatisticsSettings

__all__ = [
    "ENV_PREFIX",
    "NO_RESULT",
    "WHEN_FINISHED",
    "AggregationSettings",
    "CallSettings",
    "ExportSettings",
    "FeatureGroup",
    "GateSettings",
    "IlluminationSettings",
    "MeasurementSettings",
    "OutputSettings",
    "QcSettings",
    "SegmentationSettings",
    "Settings",
    "StatisticsSettings",
    "load_settings",
    "read_yaml",
]
