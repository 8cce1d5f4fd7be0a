"""Where runs are shown: Trackio."""
