"""Results of DICOM images as DICOM objects: secondary captures, structured reports and parametric maps."""
