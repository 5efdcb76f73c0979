"""Run training jobs. A job's result depends on the job alone, never on where, when or how often it runs."""
