"""The study file: its schema, its parser, and the errors shown to users. Imports no other package of mnist_hpo."""
