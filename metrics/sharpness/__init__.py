"""Saliency sharpness: how concentrated and how coherent a map is."""
