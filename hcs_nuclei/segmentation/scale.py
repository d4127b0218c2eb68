"""The diameter of a field's nuclei in, the scale at which the network looks at the field out."""

from __future__ import annotations

#: What networks are trained for: nuclei of about this diameter, and of those sizes that are left as they are, px.
TRAINING_DIAMETER_PX = 20.0
#: In training diameters. Smaller nuclei than the first are enlarged to the second: neighbours are parted better, and a
#: nucleus costs then what one of a usual size does. Larger ones than the third are shrunk to the fourth: they would not
#: fit into what the network sees at once. In between, rescaling only blurs. Chosen on validation images.
SMALL, ENLARGED, LARGE, SHRUNK = 0.85, 1.4, 2.2, 2.0
#: Enlarging more shows nothing more and costs its square.
LARGEST_SCALE = 2.5


def viewing_scale(diameter_px: float, training_diameter_px: float = TRAINING_DIAMETER_PX) -> float:
    """Pixels of the network for one of the field; exactly 1 for nuclei of usual sizes, at most 2.5.

    Args:
        diameter_px: median diameter of the field's nuclei, px of the field.
        training_diameter_px: that of the nuclei that the network was trained on, px of the network.
    """
    size = diameter_px / training_diameter_px
    if size < SMALL:
        return min(ENLARGED / size, LARGEST_SCALE)
    return SHRUNK / size if size > LARGE else 1.0
