//! `afterword` asks customers, after their order, whether they would recommend the shop.
//!
//! The way through the house, and the order of the modules:
//!
//! 1. [`orders`]: the shop's files come in.
//! 2. [`invitations`]: one decision per order; mails leave through an outbox.
//! 3. [`responses`]: customers answer on a page, or their answers come in by file.
//! 4. [`metrics`]: rates with their intervals.
//! 5. [`testimonials`]: what may be published goes out as CSV.
//!
//! [`cli`], [`web`] and [`scheduler`] call [`jobs`] and the stages; jobs call the stages; a stage may use the types of an earlier stage,
//! never of a later one; every stage stands on [`import`], [`mail`], [`db`], [`survey`] and [`types`].
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

pub mod types;
pub mod nearest;
pub mod masked;
pub mod new_file;
pub mod csv_rows;
pub mod token;
pub mod process;
pub mod progress;
pub mod stop;
pub mod request;
pub mod survey;
pub mod config;
pub mod db;
pub mod mail;
pub mod vitals;
pub mod context;
pub mod import;
pub mod orders;
pub mod invitations;
pub mod installation;
pub mod letters;
pub mod responses;
pub mod metrics;
pub mod testimonials;
pub mod story;
pub mod erasure;
pub mod retention;
pub mod digest;
pub mod jobs;
pub mod scheduler;
pub mod web;
pub mod cli;
