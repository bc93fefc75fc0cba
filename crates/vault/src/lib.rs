//! Backups, archives, restore, verification, keys.
