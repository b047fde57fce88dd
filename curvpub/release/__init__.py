"""What leaves the building: the release folder, its card, figures and reports."""
