"""Names of the modalities that a run can learn on, for settings and options: without imports."""

BOTH = "video+audio"
CHOICES = (BOTH, "video", "audio")
