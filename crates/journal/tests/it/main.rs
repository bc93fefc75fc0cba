//! The journal from outside: files that survive, replicas that agree.

mod catch_up;
mod crash;
mod damage;
mod elections;
mod faults;
mod group;
mod log_files;
mod lost;
mod messages;
mod random;
mod real;
mod single;
