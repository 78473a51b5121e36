"""Inside the machine: the first process, which measures the launch and starts the agent in the process sandbox."""
