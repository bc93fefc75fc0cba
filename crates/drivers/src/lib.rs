//! Everything that touches a resource: processes, health, launcher, guard.
