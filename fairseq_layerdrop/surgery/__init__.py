"""Plans applied to checkpoints, state dicts and configurations, by pure functions."""
