"""The folder that a workspace's command leaves behind."""
