//! How fast answers are taken: the real `afterword serve` with real forms from 64 connections, beside pgbench's single-row insert with
//! 64 clients (prepared), in the same run, on the same private Postgres with its commits as durable as an operator's. The ratio is the
//! result; answers per second say something about this machine only. `benches/collect.py` builds and runs it. The second contestant is
//! pgbench writing what an answer is made of, a statement each: into tables with the same columns, keys and indexes, and nothing else.
//!
//!     collect [answers in a round, 40000] [rounds, 5] [orders that the shop has had before, none]
//!
//! It prints what `benches/common.py` says of every stage. The server is the program of PROGRAM, and else the one that cargo has built.
//!
//! Then the same with the connections spread over two and four instances of `serve`, which share the database; not in a shop with a past.
//!
//! Beside the seconds it says how much processor time an answer took, ours, the client's and the server's: others on the machine change that
//! less.
//!
//! An answer is what the reference survey of the tests brings in: a recommendation and some words, so two rows of answers and one of the
//! response, and the note that a form was sent. At the end all of them have to be there.
#![expect(
    clippy::disallowed_methods,
    reason = "it runs a server on the system's clock and asks cargo where it is"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it says what it has measured, and what the server says"
)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use afterword::config::{Config, secret};
use afterword::context::Shops;
use afterword::db::{self, embedded};
use afterword::survey;
use afterword::token::{Form, Occasion, Proof, Purpose, Tokens};
use afterword::types::{InvitationId, ShopId, SurveyVersionId};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CLIENTS: usize = 64;
/// So many instances of `serve` take the answers.
const INSTANCES: [usize; 3] = [1, 2, 4];
const WORDS: &str = "Livraison rapide, produit soigné, je reviendrai.";

const CONFIG: &str = r#"
[app]
base_url = "https://avis.shop.example"
listen = "127.0.0.1:0"

[mail]
transport = "file"

[[shop]]
key = "maison"
name = "Maison Exemple"
locale = "fr"
timezone = "Europe/Paris"
from = "Maison Exemple <avis@shop.example>"
url = "https://shop.example"

[survey.recommend]
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }

[[survey.recommend.question]]
key = "recommend"
type = "recommend"
required = true
in_mail = true
text = { fr = "Recommander ?" }

[[survey.recommend.question]]
key = "comment"
type = "text"
max_length = 4000
text = { fr = "Vos mots" }
"#;

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds its own word.
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (n_answers, n_rounds) = (numbers.next().unwrap_or(40_000), numbers.next().unwrap_or(5));
    let past = numbers.next();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(n_answers, n_rounds, past))
}

async fn measure(n_answers: usize, n_rounds: usize, past: Option<usize>) -> anyhow::Result<()> {
    let dir = tempfile::TempDir::with_prefix_in("afterword-bench-", "/tmp")?;
    let path = dir.path().join("jobs.toml");
    std::fs::write(&path, CONFIG)?;
    let config = Config::parse(&path, CONFIG)?;
    let server = embedded::start(&config.app.data_dir.join("postgres"), embedded::Durability::Full).await?;
    let options = server.options();
    db::migrate(&options).await?;
    let pool = db::pool(options.clone(), 4);
    let shop = Shops::store(&pool, &config).await?.iter().next().expect("there is a shop").0;
    if let Some(n_orders) = past {
        eprintln!("collect: making a past of {n_orders} orders");
        make_past(&options, n_orders)?;
    }
    let tokens = Tokens::new(&secret::load_or_make(&config.app.secret_file)?);
    let version = {
        let mut conn = pool.acquire().await?;
        survey::version(&mut conn, shop, &config.surveys[0], Utc::now()).await?
    };
    sqlx::raw_sql(
        "create table bench_row (id bigint generated always as identity primary key, shop_id int not null, order_id bigint not null,
           answered_at timestamptz not null, choice text not null, body text not null)",
    )
    .execute(&pool)
    .await?;
    sqlx::raw_sql(
        "create table bench_response (like response including all);
         create table bench_answer (like answer including all, foreign key (shop_id, response_id) references bench_response);",
    )
    .execute(&pool)
    .await?;
    let rows = dir.path().join("rows.sql");
    std::fs::write(
        &rows,
        format!(
            "\\set n random(1, 1000000000000)\n\
             with r as (insert into bench_response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, \
             verdict, form_nonce, locale, answered_at, received_at) \
             values (1, :n, 'recommend', 1, :n, 1, true, 'page', 'human', :n, 'fr', now(), now()) returning response_id) \
             insert into bench_answer (shop_id, response_id, question, choice, body) \
             select 1, response_id, question, choice, body from r, \
             (values ('recommend', 'yes', null), ('comment', null, '{WORDS}')) as a (question, choice, body);\n"
        ),
    )?;
    let script = dir.path().join("insert.sql");
    std::fs::write(
        &script,
        format!(
            "\\set n random(1, 1000000000)\ninsert into bench_row (shop_id, order_id, answered_at, choice, body) values (1, :n, now(), 'yes', '{WORDS}');\n"
        ),
    )?;
    let n_instances = if past.is_some() { &INSTANCES[..1] } else { &INSTANCES[..] };
    let most = n_instances.iter().copied().max().unwrap_or(1);
    let mut instances = (0..most).map(|_| serve(dir.path())).collect::<anyhow::Result<Vec<_>>>()?;
    let postmaster = std::fs::read_to_string(config.app.data_dir.join("postgres/data/postmaster.pid"))?;
    let postmaster: u32 = postmaster.lines().next().unwrap_or_default().parse()?;

    eprintln!("collect: {n_answers} answers in a round, {n_rounds} rounds, {CLIENTS} clients");
    let has_pgbench = Command::new("pgbench").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has_pgbench {
        let skipped = json!({ "stage": "collect", "size": past.unwrap_or(n_answers), "contestant": "pgbench", "skipped": "it is not on PATH" });
        println!("{skipped}");
    }
    for round in 1..=n_rounds {
        sqlx::raw_sql("checkpoint").execute(&pool).await?;
        if has_pgbench {
            let contestants = [("pgbench, one row", &script), ("pgbench, an answer's rows", &rows)];
            for (contestant, script) in contestants {
                let before = of_server(postmaster)?;
                let seconds = pgbench(&options, script, n_answers)?;
                let server = of_server(postmaster)? - before;
                sample(
                    contestant,
                    round,
                    (past, n_answers),
                    seconds,
                    json!({ "server_us": each(server, n_answers) }),
                );
            }
        }
        for &n in n_instances {
            let requests = prepare(&pool, &tokens, shop, version, n_answers).await?;
            sqlx::raw_sql("checkpoint").execute(&pool).await?;
            let taking = &instances[..n];
            let addresses: Vec<_> = taking.iter().map(|(_, address)| *address).collect();
            let used = || -> anyhow::Result<_> {
                let ours =
                    taking.iter().map(|(serve, _)| of_process(serve.id())).sum::<anyhow::Result<f64>>()?;
                Ok((ours, of_process(std::process::id())?, of_server(postmaster)?))
            };
            let last: i64 = sqlx::query_scalar("select coalesce(max(response_id), 0) from response")
                .fetch_one(&pool)
                .await?;
            let before = used()?;
            let began = Instant::now();
            let mut took = send(&addresses, requests).await?;
            let seconds = began.elapsed().as_secs_f64();
            let after = used()?;
            // The rows of a batch have been written by one transaction.
            let batch: i64 = sqlx::query_scalar(
                "select percentile_disc(0.5) within group (order by n)
                 from (select count(*) as n from response where response_id > $1 group by xmin::text) as batch",
            )
            .bind(last)
            .fetch_one(&pool)
            .await?;
            took.sort_unstable();
            let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
            let peaks =
                taking.iter().map(|(serve, _)| peak_kib(serve.id())).collect::<anyhow::Result<Vec<_>>>()?;
            let more = json!({
                "peak_kib": peaks.into_iter().max(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "batch": batch,
                "ours_us": each(after.0 - before.0, n_answers), "client_us": each(after.1 - before.1, n_answers),
                "server_us": each(after.2 - before.2, n_answers),
            });
            let contestant = match n {
                1 => "afterword".to_owned(),
                _ => format!("afterword, {n} instances"),
            };
            sample(&contestant, round, (past, n_answers), seconds, more);
        }
    }
    for (serve, _) in &mut instances {
        let process = nix::unistd::Pid::from_raw(serve.id().try_into()?);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM)?;
        serve.wait()?;
    }
    let counted: i64 =
        sqlx::query_scalar("select count(*) from response where counted and survey = 'recommend'")
            .fetch_one(&pool)
            .await?;
    anyhow::ensure!(
        counted == i64::try_from(n_answers * n_instances.len() * n_rounds)?,
        "only {counted} answers are there"
    );
    eprintln!("collect: all {counted} answers are there");
    pool.close().await;
    server.close().await;
    Ok(())
}

/// One measurement, in the form of all stages; `more` is what else is known of it.
fn sample(
    contestant: &str,
    round: usize,
    (past, n): (Option<usize>, usize),
    seconds: f64,
    more: serde_json::Value,
) {
    let mut sample = json!({
        "stage": "collect", "size": past.unwrap_or(n), "contestant": contestant, "round": round, "seconds": seconds, "items": n, "peak_kib": null,
    });
    if let (Some(sample), serde_json::Value::Object(mut more)) = (sample.as_object_mut(), more) {
        sample.append(&mut more);
    }
    println!("{sample}");
}

/// The most memory that a running process has had.
fn peak_kib(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    peak.ok_or_else(|| anyhow::anyhow!("the kernel does not say how much memory the server has had"))
}

/// Microseconds for each.
fn each(seconds: f64, n: usize) -> f64 {
    (seconds * 1e7 / n as f64).round() / 10.0
}

/// What `/proc/<pid>/stat` says of a process after its name, from its state on: the third field and those that follow (proc(5)).
fn stat(process: u32) -> anyhow::Result<Vec<String>> {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = line.rsplit_once(')').ok_or_else(|| anyhow::anyhow!("the kernel's line has no name"))?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// Seconds of the processor that fields of such a line, counted from 1 as the manual does, come to. Linux tells them in hundredths.
fn seconds_of(stat: &[String], fields: std::ops::RangeInclusive<usize>) -> f64 {
    fields.filter_map(|field| stat.get(field - 3)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Seconds of the processor that a process has had, its own and the kernel's for it.
fn of_process(process: u32) -> anyhow::Result<f64> {
    Ok(seconds_of(&stat(process)?, 14..=15))
}

/// The same of a Postgres server and all of its children, those that are gone too.
fn of_server(postmaster: u32) -> anyhow::Result<f64> {
    let mut seconds = seconds_of(&stat(postmaster)?, 14..=17);
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended in the meantime is counted with its parent.
        let Ok(stat) = stat(process) else { continue };
        if stat.get(1).and_then(|parent| parent.parse().ok()) == Some(postmaster) {
            seconds += seconds_of(&stat, 14..=15);
        }
    }
    Ok(seconds)
}

fn serve(dir: &Path) -> anyhow::Result<(Child, SocketAddr)> {
    let program = std::env::var_os("PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_afterword").into());
    let mut serve = Command::new(program)
        .current_dir(dir)
        .arg("serve")
        .env_remove("DATABASE_URL")
        .env_remove("AFTERWORD_SECRET")
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(serve.stderr.take().expect("it is piped")).lines();
    let address = loop {
        let line = lines.next().ok_or_else(|| anyhow::anyhow!("serve has ended"))??;
        if let Some((_, rest)) = line.split_once("pages on http://") {
            break rest.split(',').next().unwrap_or_default().parse()?;
        }
    };
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
    Ok((serve, address))
}

/// A shop of three years, by psql, which must be on PATH.
fn make_past(options: &PgConnectOptions, n_orders: usize) -> anyhow::Result<()> {
    let made = Command::new("psql")
        .args(["-Xq", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/metrics/shop.sql")])
        .args(["-v", &format!("orders={n_orders}"), "-v", &format!("answers={}", n_orders / 5)])
        .args(["-v", &format!("began={}", (Utc::now() - TimeDelta::days(3 * 365 + 2)).date_naive())])
        .args(["-c", "vacuum analyze", "-c", "checkpoint"])
        .args(["-h", &socket(options), "-p", &options.get_port().to_string()])
        .args(["-U", options.get_username(), options.get_database().unwrap_or("afterword")])
        .stdout(Stdio::null())
        .status()?;
    anyhow::ensure!(made.success(), "psql ended with {made}");
    Ok(())
}

fn socket(options: &PgConnectOptions) -> String {
    let socket = options.get_socket().expect("the private Postgres listens on a socket");
    socket.to_string_lossy().into_owned()
}

/// So many orders whose customers were mailed yesterday, and the form of each as a browser sends it.
async fn prepare(
    pool: &PgPool,
    tokens: &Tokens,
    shop: ShopId,
    version: SurveyVersionId,
    n: usize,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let invitations: Vec<InvitationId> = sqlx::query_scalar(
        r#"with last as (select coalesce(max(customer_id), 0) as n from customer),
           people as (
             insert into customer (shop_id, email, email_key, first_name, last_name)
             select $1, 'c' || g || '@customer.example', 'c' || g || '@customer.example', 'Claire', 'Duval'
             from last, generate_series(last.n + 1, last.n + $3) g
             returning customer_id
           ), orders as (
             insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, locale, attributes,
               import_run_id, imported_at, updated_at)
             select $1, 'B-' || customer_id, customer_id, now() - interval '10 days', now() - interval '8 days', 'fulfilled', '{}', 'fr',
               '{}', 1, now(), now()
             from people
             returning order_id, customer_id
           )
           insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at,
             next_attempt_at, attempts, message_id, sent_at)
           select $1, order_id, customer_id, 'recommend', 0, $2, 'sent', now() - interval '1 day', now() - interval '1 day',
             now() - interval '1 day', 1, '<' || order_id || '@shop.example>', now() - interval '1 day'
           from orders
           returning invitation_id"#,
    )
    .bind(shop)
    .bind(version)
    .bind(i64::try_from(n)?)
    .fetch_all(pool)
    .await?;
    sqlx::raw_sql("analyze").execute(pool).await?;
    let made_at = Utc::now() - TimeDelta::minutes(1);
    let words: String = WORDS.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let request = |invitation: InvitationId| {
        let token = tokens.issue(Purpose::Survey, shop, invitation);
        let proof = tokens.issue_form(Form::Survey, shop, invitation, &Proof::new(Occasion::Visit, made_at));
        let body = format!("form.proof={proof}&form.more=&recommend=yes&comment={words}");
        format!(
            "POST /s/{token} HTTP/1.1\r\nhost: avis.shop.example\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    Ok(invitations.into_iter().map(request).collect())
}

/// Sends them over all connections, which are spread over the addresses, each as soon as the one before is answered; how long each took.
async fn send(addresses: &[SocketAddr], mut requests: Vec<Vec<u8>>) -> anyhow::Result<Vec<Duration>> {
    let share = requests.len().div_ceil(CLIENTS);
    let mut addresses = addresses.iter().cycle();
    let mut clients = Vec::new();
    while !requests.is_empty() {
        let mine = requests.split_off(requests.len().saturating_sub(share));
        let address = *addresses.next().ok_or_else(|| anyhow::anyhow!("nobody takes answers"))?;
        clients.push(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut took = Vec::with_capacity(mine.len());
            let mut reply = vec![0; 16 * 1024];
            for request in mine {
                let began = Instant::now();
                stream.write_all(&request).await?;
                let mut n = 0;
                // A redirect has no body.
                while !reply[..n].ends_with(b"\r\n\r\n") {
                    let more = stream.read(&mut reply[n..]).await?;
                    anyhow::ensure!(more > 0, "the connection was closed");
                    n += more;
                    anyhow::ensure!(
                        reply.starts_with(b"HTTP/1.1 303"),
                        "{}",
                        String::from_utf8_lossy(&reply[..n.min(300)])
                    );
                }
                took.push(began.elapsed());
            }
            Ok(took)
        });
    }
    let took = futures_util::future::try_join_all(clients).await?;
    Ok(took.into_iter().flatten().collect())
}

/// How long it took, from the transactions in a second that pgbench says, which leave out what it takes to connect.
fn pgbench(options: &PgConnectOptions, script: &Path, n: usize) -> anyhow::Result<f64> {
    let output = Command::new("pgbench")
        .args(["-n", "-M", "prepared", "-j", "2", "-c", &CLIENTS.to_string()])
        .args(["-t", &n.div_ceil(CLIENTS).to_string(), "-f"])
        .arg(script)
        .args(["-h", &socket(options), "-p", &options.get_port().to_string()])
        .args(["-U", options.get_username(), options.get_database().unwrap_or("afterword")])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    let rate: Option<f64> = rate;
    rate.map(|rate| n as f64 / rate)
        .ok_or_else(|| anyhow::anyhow!("pgbench says:\n{said}\n{}", String::from_utf8_lossy(&output.stderr)))
}
