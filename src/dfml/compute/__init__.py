"""Where work is done: executors, ranks, devices, memory."""
