"""The models: one module each, which exports `MODEL`. Studies use the module's name; no other file lists it."""
