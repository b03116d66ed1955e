"""A plugin for riscof, the framework of the RISC-V architecture tests: this directory is its `pluginpath`."""
