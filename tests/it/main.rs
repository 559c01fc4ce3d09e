//! The program driven from outside: real files, a real Postgres, a file per stage. Wants nothing but Postgres's server programs.

mod support;
mod database;
mod metrics;
mod testimonials;
