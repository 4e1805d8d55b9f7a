"""The names that users give to methods, colormaps and file formats: one list of each, without imports."""

AUTO = "auto"
PREDICTED = "predicted"
ALL = "all"

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigencam", "scorecam")
COLORMAPS = ("inferno", "magma", "viridis", "cividis", "turbo", "gray", "blue-red")
OUTPUT_FORMATS = ("jpeg", "png", "webp")
SCALES = ("version", "image")
