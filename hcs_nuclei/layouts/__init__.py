"""Plate layout in, treatments of wells out: typed, named as the tables have them, checked against the plate."""

from __future__ import annotations

from hcs_nuclei.layouts.barcodes import check_barcode, read_barcodes
from hcs_nuclei.layouts.layout import Layout, Value
from hcs_nuclei.layouts.reading import read_layout, read_vendor_layout

__all__ = ["Layout", "Value", "check_barcode", "read_barcodes", "read_layout", "read_vendor_layout"]
