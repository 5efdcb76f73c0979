"""The study file: its schema, how it is read, and the errors that a user is shown. Imports nothing of ours."""
