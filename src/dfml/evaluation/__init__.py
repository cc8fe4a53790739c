"""How a learner is judged: manifests of episodes, kernels, scores, baselines."""
