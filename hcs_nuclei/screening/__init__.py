"""Well values and treatments in, what a screen decides by out: control statistics, normalised values, plate effects,
dose–response. Pure functions of arrays; n is always wells, never nuclei.
"""
