"""From the study file's space, sampler and pruner to Optuna's; `ask_tell` is the study as virtual time sees it."""
