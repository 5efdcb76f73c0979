"""The policies that a study file can name: one file each, whose `POLICY` is a class with the interface `Policy`."""
