"""Several processes that learn together, one on each GPU: the first trains as any run does, the others follow it."""
