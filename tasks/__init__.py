"""The catalogue of tasks: name -> module and class."""

CATALOGUE = {
    "classification": "tasks.classification:Classification",
    "segmentation": "tasks.segmentation:Segmentation",
    "super_resolution": "tasks.super_resolution:SuperResolution",
}
