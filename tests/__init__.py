"""What tests and benchmarks share; a package, since torch-fidelity installs one of the same name."""
