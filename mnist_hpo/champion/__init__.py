"""Re-train a study's best trial, test it once, register it. The only room that reads the test split."""
