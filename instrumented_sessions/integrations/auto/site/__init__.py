"""The directory that `instrumented-sessions run` puts in front of the program's import path."""
