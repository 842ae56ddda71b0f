"""`landfold inspect`: what a delivery holds, what would be refused and why, and settings that fit, before any run."""

from landfold.cli.inspection.inspection import Inspection, inspect, write
from landfold.cli.inspection.verdict import Finding
from landfold.patches.delivery import InspectionError

__all__ = ["Finding", "Inspection", "InspectionError", "inspect", "write"]
