"""From the AST of a subset function to LLVM IR text."""
