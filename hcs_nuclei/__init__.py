"""Batch high-content screening of cell nuclei: plate directories in, label images and tables out."""
