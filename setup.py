"""The list of packages, which setup.cfg cannot compute for a mapped folder; all else is there."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["agrad", "agrad.*"]),
        *(f"agrad.{name}" for name in find_packages(include=["kernels", "kernels.*"])),
    ]
)
