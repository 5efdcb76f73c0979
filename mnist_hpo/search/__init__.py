"""Search policies, which decide what runs next. One of them adapts Optuna's samplers and pruners."""
