"""The kernel calls behind the walls."""
