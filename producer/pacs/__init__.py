"""Hospitals' archives: images fetched from them and received, results sent back."""

import logging
import warnings

# They quote values, identity among them.
warnings.filterwarnings("ignore", module=r"highdicom|pydicom|pynetdicom|worker\.dicom_results")
for _name in ("highdicom", "pynetdicom"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)
