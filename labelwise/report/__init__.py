"""The report and the other pages: files of a run in, one HTML page out."""
