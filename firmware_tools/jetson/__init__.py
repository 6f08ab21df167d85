"""NVIDIA's own flashing tools (Linux_for_Tegra, installed by the user), driven unattended. Not tried on hardware."""
