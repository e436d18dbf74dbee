"""How plots are drawn, whatever they show: one look, points, curves, maps, names that do not overlap."""
