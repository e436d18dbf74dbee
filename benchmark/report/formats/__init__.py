"""Renderers: one `Table` to each format. They place text; every number was written once, in `cells`."""
