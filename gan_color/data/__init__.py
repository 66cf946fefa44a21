"""Photographs: found, read, looked over, split, and served as (L, ab)."""

from gan_color.data.lab import LabDataset

__all__ = ["LabDataset"]
