"""The laboratory: cost of curvature, noise, saddles, real training and robustness to defaults, as measured axes."""
