//! The fake world: time, network, disks, clocks, processes, faults.
