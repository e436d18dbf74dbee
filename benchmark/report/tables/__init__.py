"""The tables of measures: columns, cells, intervals, what is bold, what does not beat its controls, captions."""
