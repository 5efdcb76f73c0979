"""The policies that a study file can name: modules that export a class of the interface `Policy` as `POLICY`."""
