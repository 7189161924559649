"""What becomes of a sweep's result beyond its run directory: copies in S3, a word to people, figures for alarms."""
