"""The training wing: data, models, recipes, plans, the training loop, run folders and executors (torch)."""
