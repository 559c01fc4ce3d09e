//! `afterword demo`: the whole way with a made-up shop, on the real program: a private Postgres, order files in the drop folder, the
//! real jobs, mails into a local outbox, customers who follow the links in their mails over HTTP. Only the time is played: half a year
//! passes in two-day steps.
//!
//! Everything lies in one folder, and a second demo starts afresh there. It never looks at `DATABASE_URL`.

mod customers;
mod shop;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::customers::OpenForm;
use self::shop::Order;
use super::logging::Attendance;
use super::{Exit, init, logging, output, serve};
use crate::config::{Config, LogFormat, Shop};
use crate::context::Context;
use crate::jobs::RunOutcome;
use crate::jobs::ledger::Occurrence;
use crate::jobs::runner::{self, Outcome};
use crate::metrics::{self, report as page};
use crate::testimonials::candidate::Filter;
use crate::testimonials::export::{self, Destination, Export, export_testimonials};
use crate::testimonials::{RejectReason, TestimonialState, moderation};
use crate::token::Purpose;
use crate::types::{Clock, InvitationId, Locale, ShopId};
use crate::web::outbox;
use crate::{db, web};

/// Mail scanners look at a mail on its way.
const SCANNED_AFTER: TimeDelta = TimeDelta::seconds(5);
/// The shop's day starts so long before it sends; customers answer in the afternoon.
const ANSWERS_AFTER: TimeDelta = TimeDelta::hours(6);
/// How long a customer has the form open.
const FILLING_IN: TimeDelta = TimeDelta::seconds(90);
/// Words that the shop's moderator does not publish.
const NOT_PUBLISHED: &str = "nobody answered my first mail";

/// What a person opens, in the folder.
const SPREADSHEET: &str = "exports/testimonials/spreadsheet.csv";

/// Show the whole way with a made-up shop: orders, mails, answers, figures, testimonials
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afterword demo\n  afterword demo --exit\n\n\
    No mail leaves this machine: mails are written into a local outbox. Ctrl-C ends the demo.")]
pub struct Args {
    /// End when everything is made, instead of serving the pages
    #[arg(long)]
    exit: bool,
    /// Where everything goes; what an earlier demo left there is replaced
    #[arg(long, value_name = "DIR", default_value = ".demo")]
    dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When a part of the way does not work; then the program is broken.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    logging::start(LogFormat::Text, Attendance::Attended);
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let folder = args.dir.canonicalize()?;
    let lock = File::create(folder.join(".lock"))?;
    let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
        output::say(&format!(
            "Another demo is running in {}; end it with Ctrl-C, or choose another --dir.",
            folder.display()
        ));
        return Ok(Exit::Refused);
    };
    clear(&folder)?;
    // Bound before the configuration is written, because its address goes into the mails.
    let pages = StdListener::bind("127.0.0.1:0").context("cannot listen on this machine")?;
    pages.set_nonblocking(true)?;
    let config = configuration(&folder, pages.local_addr()?)?;
    empty_database(&config).await?;
    let opened = super::open_config(config, Clock::System).await?;
    let postgres = opened.database.embedded_root().map(Path::to_path_buf);
    let shown = show(&opened.context, &folder, pages, postgres.as_deref(), args.exit).await;
    opened.close().await;
    shown.map(|()| Exit::Done)
}

/// Removes what an earlier demo made, but not the database's files: those are emptied by the database.
fn clear(folder: &Path) -> anyhow::Result<()> {
    for name in ["inbox", "outbox", "exports", "installation", "report.html", "report.json", "jobs.toml"] {
        let path = folder.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
    }
    Ok(())
}

/// The shipped jobs.toml, with this folder and address in it.
fn configuration(folder: &Path, pages: SocketAddr) -> anyhow::Result<Config> {
    let mut text = init::SHIPPED.to_owned();
    for (shipped, here) in [
        ("http://127.0.0.1:8080", format!("http://{pages}")),
        ("\"127.0.0.1:8080\"", format!("\"{pages}\"")),
        ("data_dir = \"./data\"", "data_dir = \".\"".to_owned()),
        ("\"./data/", "\"./".to_owned()),
    ] {
        ensure!(text.contains(shipped), "the shipped jobs.toml no longer has {shipped}");
        text = text.replace(shipped, &here);
    }
    let path = folder.join("jobs.toml");
    fs::write(&path, &text)?;
    let mut config = Config::parse(&path, &text)?;
    // Whatever the environment says: a demo empties its database, so it must be its own.
    config.database.url = None;
    Ok(config)
}

async fn empty_database(config: &Config) -> anyhow::Result<()> {
    let database = db::open(config).await?;
    let emptied =
        sqlx::raw_sql("drop schema public cascade; create schema public").execute(&database.pool).await;
    database.close().await;
    emptied.context("cannot empty the demo's database")?;
    Ok(())
}

async fn show(
    context: &Context,
    folder: &Path,
    pages: StdListener,
    postgres: Option<&Path>,
    exit: bool,
) -> anyhow::Result<()> {
    let stop = serve::stop_on_signals()?;
    let (shop_id, shop) = context.shops.iter().next().context("the shipped jobs.toml has no shop")?;
    let today = context.clock.now().with_timezone(&shop.timezone);
    let orders = Arc::new(shop::orders(today));

    output::say("1  Orders come in, 2  mails go out, 3  customers answer: half a year in two-day steps");
    half_a_year(context, folder, &pages, &orders, &stop).await?;
    let told: i64 = sqlx::query_scalar!(r#"select count(*) as "n!" from invitation where state = 'sent'"#)
        .fetch_one(&context.pool)
        .await?;
    let answered: i64 = sqlx::query_scalar!(r#"select count(*) as "n!" from response where counted"#)
        .fetch_one(&context.pool)
        .await?;
    let n_orders = orders.len();
    output::say(&format!("   {n_orders} orders, {told} mails written, {answered} answers that count"));

    output::say("4  Figures");
    let now = context.clock.now();
    let report = metrics::report(
        &context.pool,
        &[(shop_id, shop)],
        &context.config.surveys,
        metrics::window::Window::default(),
        now,
    )
    .await?;
    let shops = [(shop_id, shop)];
    let contents = page::gather(context, &shops, page::Scope::default(), now).await?;
    let english = page::render(&contents, context, Locale::parse("en").ok().as_ref())?;
    fs::write(folder.join("report.html"), english)?;
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(&report)?)?;
    for (metric, figure) in report.shops.iter().flat_map(|shop| shop.metrics.iter()) {
        output::say(&format!("   {:<24} {}", metric.key, figure.verdict));
    }

    output::say("5  Testimonials go out");
    moderate(context, shop_id, now).await?;
    output::say(&format!("   {}", job(context, "weekly-testimonials").await?));
    for_a_spreadsheet(context, &shops, folder, now).await?;

    let viewer = TcpListener::bind("127.0.0.1:0").await?;
    let survey = unanswered(context).await?;
    last_screen(folder, &survey, viewer.local_addr()?, postgres, exit)?;
    if exit {
        return Ok(());
    }
    let pages = web::serve(TcpListener::from_std(pages)?, context.clone(), stop.clone());
    let stopped = stop.clone();
    let outbox = axum::serve(viewer, outbox::router(context.config.outbox_dir()))
        .with_graceful_shutdown(async move { stopped.cancelled().await });
    let (pages, outbox) = tokio::join!(pages, async { outbox.await });
    pages?;
    outbox?;
    Ok(())
}

/// Puts the shop's latest export into the drop folder, old enough to be taken, and has it taken.
async fn import(
    context: &Context,
    folder: &Path,
    orders: &[Order],
    since: Option<DateTime<Utc>>,
) -> anyhow::Result<()> {
    let now = context.clock.now();
    let inbox = folder.join("inbox/orders");
    fs::create_dir_all(&inbox)?;
    let path = inbox.join(format!("orders-{}.csv", now.format("%F")));
    let file = File::create(&path)?;
    if shop::write_orders(orders, since, now, &file)? == 0 {
        return Ok(fs::remove_file(&path)?);
    }
    file.set_modified(SystemTime::now() - Duration::from_secs(60))?;
    job(context, "import-orders").await?;
    Ok(())
}

/// Runs a job as `afterword run` does. Its one line comes back.
async fn job(context: &Context, name: &str) -> anyhow::Result<String> {
    let job = context
        .config
        .jobs
        .iter()
        .find(|job| job.name == name)
        .context("the shipped jobs.toml lacks a job")?;
    let outcome =
        runner::run_occurrence(context, job, Occurrence::ByHand, false, &CancellationToken::new()).await?;
    match outcome {
        Outcome::Ended(report) if report.outcome == RunOutcome::Done => Ok(report.text),
        outcome => bail!("the job {name} did not end well: {outcome:?}"),
    }
}

async fn half_a_year(
    context: &Context,
    folder: &Path,
    pages: &StdListener,
    orders: &Arc<Vec<Order>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    // Late in the morning of the shop, whatever the hour now, and never with an answer in the future.
    let today = context.clock.now();
    let latest = today - ANSWERS_AFTER - FILLING_IN;
    let morning = latest.date_naive().and_hms_opt(9, 30, 0).map_or(latest, |morning| morning.and_utc());
    let last = if morning > latest { morning - TimeDelta::days(1) } else { morning };
    let steps = i64::try_from(shop::DAYS / 2)?;
    let bar = ProgressBar::new(u64::try_from(steps)?)
        .with_style(ProgressStyle::with_template("   {bar:40} {msg}")?);
    let mut seen = BTreeSet::new();
    let mut imported = None;
    for step in (0..=steps).rev() {
        if stop.is_cancelled() {
            bail!("stopped");
        }
        let moment = last - TimeDelta::days(2 * step);
        bar.set_message(moment.format("%e %B %Y").to_string());
        import(&at(context, moment), folder, orders, imported).await?;
        imported = Some(moment);
        job(&at(context, moment), "send-invitations").await?;
        let outbox = context.config.outbox_dir();
        on_pages(&at(context, moment + SCANNED_AFTER), pages, {
            let (orders, mut seen, outbox) = (Arc::clone(orders), seen.clone(), outbox.clone());
            move || {
                let mails = customers::new_mail(&outbox, &mut seen, &orders)?;
                mails.iter().try_for_each(|mail| customers::scan(mail, &shop::reaction(mail.order)))
            }
        })
        .await?;
        let (forms, new_seen) = {
            let (orders, mut seen) = (Arc::clone(orders), std::mem::take(&mut seen));
            on_pages(&at(context, moment + ANSWERS_AFTER), pages, move || {
                let mails = customers::new_mail(&outbox, &mut seen, &orders)?;
                let forms: Vec<OpenForm> = mails
                    .iter()
                    .filter_map(|mail| customers::open(mail, &shop::reaction(mail.order)).transpose())
                    .collect::<anyhow::Result<_>>()?;
                Ok((forms, seen))
            })
            .await?
        };
        seen = new_seen;
        on_pages(&at(context, moment + ANSWERS_AFTER + FILLING_IN), pages, move || {
            forms.iter().try_for_each(customers::send)
        })
        .await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    // What was ordered or delivered since this morning is there, too.
    import(&at(context, today), folder, orders, imported).await
}

/// The same program at another moment.
fn at(context: &Context, moment: DateTime<Utc>) -> Context {
    Context { clock: Clock::Fixed(moment), ..context.clone() }
}

/// Serves the pages while somebody visits them.
async fn on_pages<T: Send + 'static>(
    context: &Context,
    pages: &StdListener,
    visit: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let stop = CancellationToken::new();
    let listener = TcpListener::from_std(pages.try_clone()?)?;
    let served = tokio::spawn(web::serve(listener, context.clone(), stop.clone()));
    let visited = tokio::task::spawn_blocking(visit).await?;
    stop.cancel();
    served.await??;
    visited
}

/// The shop's moderator reads the first ones: all may be published but one, and the latest still wait.
async fn moderate(context: &Context, shop_id: ShopId, now: DateTime<Utc>) -> anyhow::Result<()> {
    let shops: Vec<_> = context.shops.iter().collect();
    let filter = Filter { state: Some(TestimonialState::Pending), ..Filter::default() };
    let waiting = moderation::list(&context.pool, &shops, filter, &context.config.testimonials).await?;
    let (read, _) = waiting.split_at(waiting.len().saturating_sub(3));
    let (rejected, approved): (Vec<_>, Vec<_>) =
        read.iter().partition(|entry| entry.text.contains(NOT_PUBLISHED));
    let ids =
        |entries: Vec<&moderation::Entry>| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    moderation::approve(&context.pool, &[shop_id], &ids(approved), now).await?;
    moderation::reject(&context.pool, &[shop_id], &ids(rejected), RejectReason::Contradictory, now).await?;
    Ok(())
}

/// The same testimonials for a person.
async fn for_a_spreadsheet(
    context: &Context,
    shops: &[(ShopId, &Shop)],
    folder: &Path,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let format = export::format("excel").context("there is no format for spreadsheets")?;
    let export = Export::new(shops, format, &context.config.testimonials, &context.config.surveys);
    let file = Destination::File(folder.join(SPREADSHEET));
    let report = export_testimonials(&context.pool, export, file, now).await?;
    output::say(&format!(
        "   {} of them for a spreadsheet, with a manifest and notices beside",
        report.n_rows
    ));
    Ok(())
}

/// The link of the latest mail that nobody has answered.
async fn unanswered(context: &Context) -> anyhow::Result<String> {
    let latest = sqlx::query!(
        r#"select i.shop_id as "shop: ShopId", i.invitation_id as "invitation: InvitationId"
           from invitation i left join response r using (shop_id, invitation_id)
           where i.state = 'sent' and r.response_id is null
           order by i.sent_at desc, i.invitation_id desc limit 1"#
    )
    .fetch_one(&context.pool)
    .await
    .context("every mail was answered")?;
    let token = context.tokens.issue(Purpose::Survey, latest.shop, latest.invitation);
    Ok(format!("{}/s/{token}", context.config.app.base_url))
}

fn last_screen(
    folder: &Path,
    survey: &str,
    viewer: SocketAddr,
    postgres: Option<&Path>,
    exit: bool,
) -> anyhow::Result<()> {
    let folder =
        std::env::current_dir().ok().and_then(|here| folder.strip_prefix(here).ok()).unwrap_or(folder);
    let shown = folder.display();
    let mut text = String::from("\nHave a look:\n");
    if !exit {
        text.push_str(&format!(
            "  the mails          http://{viewer}/   (open one, and click an answer in it)\n"
        ));
        text.push_str(&format!("  a survey page      {survey}\n"));
    }
    text.push_str(&format!(
        "  the report         {shown}/report.html\n\
         \x20 the testimonials   {shown}/exports/testimonials/latest.csv\n\
         \x20 for a spreadsheet  {shown}/{SPREADSHEET}\n\
         \x20 the mails as files {shown}/outbox/\n\
         \x20 the configuration  {shown}/jobs.toml\n"
    ));
    if let Some(postgres) = postgres {
        text.push_str(&format!("  the database       {}\n", postgres.display()));
    }
    text.push_str(&format!(
        "\nAsk it yourself:\n\
         \x20 afterword --config {shown}/jobs.toml report\n\
         \x20 afterword --config {shown}/jobs.toml explain order 100042\n\
         \x20 afterword --config {shown}/jobs.toml testimonials list\n\
         \x20 afterword --config {shown}/jobs.toml jobs history\n"
    ));
    if !exit {
        text.push_str("\nCtrl-C ends the demo.\n");
    }
    output::data(&text)
}
