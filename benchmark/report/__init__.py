"""The report room: records -> tables and plots. Reads the files of a run folder; pandas and matplotlib, never torch."""
