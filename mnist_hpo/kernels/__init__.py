"""The few loops that XLA does not make well, written in LLVM's own language and called from the compiled epoch."""
