//! cluster.toml to specification: every error at its line.
