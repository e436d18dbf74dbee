"""Stability: does the map stay when the image changes a little?"""
