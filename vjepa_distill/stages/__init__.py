"""The two stages: each one ``nn.Module`` whose ``forward(batch)`` returns named, unweighted losses."""
