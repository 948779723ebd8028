"""Video encoders: each file one family, none knows a loss, a mask sampler or a config."""
