"""Localisation: does the map point at the pixels that carry the class?"""
