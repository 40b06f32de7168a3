"""What a network costs, counted and not measured: parameters, multiply-adds, memory."""
