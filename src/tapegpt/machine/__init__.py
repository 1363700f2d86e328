"""The machine: the kernel language and its compiler, the only place that knows LLVM and the CPU."""
