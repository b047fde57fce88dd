"""The stages of the main job: train, publish, audit, report. Each restarts by itself."""
