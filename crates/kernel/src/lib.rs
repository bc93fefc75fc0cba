//! One node without I/O: brain and journal glued together.
