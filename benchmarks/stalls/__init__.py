"""The loop watchdog beside other stall detectors, in one run on one machine."""
