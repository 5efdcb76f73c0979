"""What is tried next: policies, and Optuna's samplers and pruners behind one of them."""
