"""Manifold alignment: do gradients lie along the image manifold?"""
