//! `afterword import`
use super::{Exit, Global};
/// Read a file
#[derive(Debug, clap::Args)]
pub struct Args {}
pub async fn run(_: Args, _: &Global) -> anyhow::Result<Exit> {
    anyhow::bail!("to come")
}
