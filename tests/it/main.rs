//! The program driven from outside: real files, a real Postgres, real mail and HTTP; a file per stage, and `journey.rs` for the whole
//! way. Wants nothing but Postgres's programs.

mod support;
mod database;
mod configuration;
mod orders;
mod events;
mod response_files;
mod ratings;
mod decisions;
mod invitations;
mod rules;
mod brakes;
mod installation;
mod suppression;
mod delivery;
mod mail;
mod explain;
mod kill;
mod bounces;
mod surveys;
mod pages;
mod gauntlet;
mod browser;
mod collect;
mod jobs;
mod scheduler;
mod metrics;
mod periods;
mod alerts;
mod certainty;
mod report;
mod naughty;
mod fuzz;
mod testimonials;
mod private;
#[cfg(feature = "s3")]
mod upload;
mod erasure;
mod olist;
mod journey;
mod documents;
mod demo;
