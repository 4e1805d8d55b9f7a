"""The names that users give to methods, colormaps and file formats: one list of each, without imports."""

AUTO = "auto"
PREDICTED = "predicted"
ALL = "all"

FULL = "full"  # as the size of overlays: that of the image
USUAL_SIDE = 1024  # pixels: what a screen shows of a radiograph
LEAST_SIDE = 64

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigencam", "scorecam")
COLORMAPS = ("inferno", "magma", "viridis", "cividis", "turbo", "gray", "blue-red")
OUTPUT_FORMATS = ("jpeg", "png", "webp")
SCALES = ("version", "image")
