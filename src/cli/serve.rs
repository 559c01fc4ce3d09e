//! `afterword serve`: unattended, the schedule and the pages.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::logging::{self, Attendance};
use super::systemd::{self, State};
use super::{Exit, Global, output};
use crate::config::Config;
use crate::context::Context;
use crate::db;
use crate::installation;
use crate::masked;
use crate::types::Clock;
use crate::vitals::room;
use crate::{scheduler, web};

/// Run unattended: the schedule and the pages
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  afterword serve

Any number of instances may share one database: each occurrence of a job runs in one of them.
SIGTERM or Ctrl-C: nothing more is started, what is running may end within [app] shutdown_grace. A second one ends at once.")]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// When the configuration, the database or the address cannot be used.
pub async fn run(_: Args, global: &Global) -> anyhow::Result<Exit> {
    if global.as_of.is_some() {
        output::say(
            "error: --as-of stops the clock, and a stopped clock has no schedule; it is for single commands",
        );
        return Ok(Exit::Usage);
    }
    let config = Config::load(&global.config)?;
    logging::start(config.app.log_format, Attendance::Unattended);
    if let Some(warning) = config.exposed() {
        tracing::warn!("{warning}");
    }
    let opened = super::open_config(config, Clock::System).await?;
    let room = db::pools::room(&opened.context.pool).await?;
    if let Some(warning) = room::too_few(&opened.context.config, room) {
        tracing::warn!("{warning}");
    }
    let served = listen_and_serve(&opened.context).await;
    opened.close().await;
    served.map(|()| Exit::Done)
}

async fn listen_and_serve(context: &Context) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    let address = context.config.app.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ([app] listen in jobs.toml)"))?;
    serve(context.clone(), listener, stop).await
}

/// Serves the pages and follows the schedule until `stop`; returns when what was running has ended, or had its time to.
///
/// # Errors
/// When the pages or the schedule cannot go on; then the other one is stopped too.
pub async fn serve(context: Context, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let grace = context.config.app.shutdown_grace;
    let n_scheduled = context.config.jobs.iter().filter(|job| job.enabled && job.schedule.is_some()).count();
    // Whoever ends first ends the other; both are tasks, so that neither is cut off in the middle of a query.
    let pages =
        tokio::spawn(until_end(web::serve(listener, context.for_pages(), stop.clone()), stop.clone()));
    let schedule = tokio::spawn(until_end(scheduler::run(context.clone(), stop.clone()), stop.clone()));
    tracing::info!(%address, n_scheduled, "ready: pages on http://{address}, {n_scheduled} jobs on schedule");

    let private = tokio::spawn(until_end(private(context.clone(), stop.clone()), stop.clone()));
    let keeping_up = tokio::spawn(keep_up(context.clone(), stop.clone()));
    systemd::tell(State::Ready);
    tokio::spawn(systemd::say_alive(Arc::clone(&context.vitals), stop.clone()));

    stop.cancelled().await;
    systemd::tell(State::Stopping);
    tracing::info!("stopping: nothing more is started, what is running may end within {} s", grace.as_secs());
    // A little more than a job gets, because what became of it is still to be recorded.
    let all = async { (pages.await, schedule.await, private.await, keeping_up.await) };
    let Ok((pages, schedule, private, _)) = tokio::time::timeout(grace + Duration::from_secs(20), all).await
    else {
        anyhow::bail!("the pages or the schedule did not end in time");
    };
    pages.context("the pages have panicked")?.context("the pages cannot be served")?;
    schedule.context("the schedule has panicked")?.context("the schedule cannot be followed")?;
    private.context("the private pages have panicked")??;
    tracing::info!("stopped");
    Ok(())
}

/// Serves the private pages, if `[app] private_listen` says where; else only waits for the end.
async fn private(context: Context, stop: CancellationToken) -> anyhow::Result<()> {
    let Some(address) = context.config.app.private_listen else {
        stop.cancelled().await;
        return Ok(());
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ([app] private_listen in jobs.toml)"))?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the private pages can be reached from other machines at {address}; tokens must not cross a network without TLS");
    }
    tracing::info!(%address, "private pages on http://{address}");
    web::private::serve(listener, context, stop).await;
    Ok(())
}

/// Every minute, notes the mark that other instances have left.
async fn keep_up(context: Context, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(60))).await.is_some() {
        if let Err(error) = installation::keep_up(&context.pool, &context.config).await {
            tracing::warn!(error = %masked::reason(&error), "the mark by which a restored database is noticed could not be kept up");
        }
    }
}

/// Runs a part, and asks the other parts to stop when it has ended, even by a panic.
async fn until_end<T>(part: impl Future<Output = T>, stop: CancellationToken) -> T {
    let _stops_the_others = stop.drop_guard();
    part.await
}

/// A token that is cancelled by SIGTERM or Ctrl-C. The second signal ends the program at once, with 1.
///
/// # Errors
/// When the system does not let us hear signals.
pub fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot hear Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot hear SIGTERM")?;
    let heard = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if heard.is_cancelled() {
                std::process::exit(1);
            }
            heard.cancel();
        }
    });
    Ok(stop)
}
