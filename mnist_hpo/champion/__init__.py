"""Re-train a study's best trial, test it once, and register it. Only this package reads the test split."""
