//! The rules of DESIGN.md as predicates, shared by simulation, what-if and exhaustive search.
