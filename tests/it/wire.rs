//! The wire between the program and its database is slow, or is cut: at any byte, and just when a commit was asked for. What was
//! acknowledged is there once, and what was done is done once.
//!
//! With `AFTERWORD_SOAK` set (`make soak`) there are more mails and answers, and so more cuts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use afterword::token::Purpose;
use afterword::types::{InvitationId, ShopId};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;

use crate::kill::{check, due_orders, run_to_the_end, scaled};
use crate::pages::fetched;
use crate::support::factories::{self, Order};
use crate::support::program::{Program, Serving, shipped, shipped_with};
use crate::support::smtp::Relay;
use crate::support::{TestDb, on_own_runtime, random, say};

/// Everything that goes between the program and Postgres goes over it. It has a thread of its own, so that a test's runtime cannot stop it,
/// and lives until the process ends.
struct Wire {
    port: u16,
    fault: Arc<Fault>,
}

/// What is wrong with a wire.
#[derive(Default)]
struct Fault {
    /// After about how many bytes the better half of the connections that are made from now on will be cut; 0: never.
    cuts: AtomicUsize,
    /// How many milliseconds everything is under way.
    latency: AtomicU64,
    n_connections: AtomicUsize,
    n_cut: AtomicUsize,
    /// Of these, how many because a commit was asked for.
    n_cut_in_commit: AtomicUsize,
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Never,
    /// When so many bytes have gone through.
    After(usize),
    /// When so many commits have been asked for, and the last of them has gone through: nobody hears what became of it.
    InCommit(usize),
}

impl Wire {
    fn to(db: &TestDb) -> Self {
        let socket = db.options().get_socket().unwrap().join(".s.PGSQL.5432");
        let fault = Arc::new(Fault::default());
        let (told, port) = std::sync::mpsc::channel();
        let shared = Arc::clone(&fault);
        std::thread::spawn(move || {
            on_own_runtime(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap().port()).unwrap();
                while let Ok((ours, _)) = listener.accept().await {
                    tokio::spawn(connection(ours, socket.clone(), Arc::clone(&shared)));
                }
            });
        });
        Self { port: port.recv().unwrap(), fault }
    }

    /// Lets the program take this way to its database.
    fn lay(&self, program: &Program) {
        let path = program.path("jobs.toml");
        let jobs_toml = std::fs::read_to_string(&path).unwrap();
        let options = program.db.options();
        let url = format!(
            "postgres://{}@127.0.0.1:{}/{}?sslmode=disable",
            options.get_username(),
            self.port,
            options.get_database().unwrap()
        );
        assert!(jobs_toml.contains(&program.db.url));
        std::fs::write(path, jobs_toml.replace(&program.db.url, &url)).unwrap();
    }

    fn cuts(&self, bytes: usize) {
        self.fault.cuts.store(bytes, Ordering::SeqCst);
    }

    fn takes(&self, milliseconds: u64) {
        self.fault.latency.store(milliseconds, Ordering::SeqCst);
    }

    fn n_cut(&self) -> (usize, usize) {
        (self.fault.n_cut.load(Ordering::SeqCst), self.fault.n_cut_in_commit.load(Ordering::SeqCst))
    }
}

/// Of each direction, when the connection of this number is cut: every second one while it begins or soon after, the others after some work,
/// so that whoever tries again and again gets through, as over a bad wire.
fn cuts_of(n: usize, bytes: usize) -> [Cut; 2] {
    let size = if n.is_multiple_of(2) { 1 << (random(3 * n) % 13) } else { bytes };
    let cut = Cut::After(size / 2 + random(3 * n + 1) % size.max(2));
    match random(3 * n + 2) % 3 {
        0 => [cut, Cut::Never],
        1 => [Cut::Never, cut],
        _ => [Cut::InCommit(1 + random(3 * n) % 2), cut],
    }
}

async fn connection(ours: TcpStream, socket: PathBuf, fault: Arc<Fault>) {
    let n = fault.n_connections.fetch_add(1, Ordering::SeqCst);
    let [up, down] = match fault.cuts.load(Ordering::SeqCst) {
        0 => [Cut::Never; 2],
        bytes => cuts_of(n, bytes),
    };
    let Ok(server) = UnixStream::connect(socket).await else { return };
    ours.set_nodelay(true).unwrap();
    let (from_us, to_us) = ours.into_split();
    let (from_server, to_server) = server.into_split();
    let cut = tokio::select! {
        cut = carry(from_us, to_server, up, &fault) => cut,
        cut = carry(from_server, to_us, down, &fault) => cut,
    };
    if let Some(cut) = cut {
        fault.n_cut.fetch_add(1, Ordering::SeqCst);
        fault.n_cut_in_commit.fetch_add(usize::from(matches!(cut, Cut::InCommit(_))), Ordering::SeqCst);
    }
}

/// Carries one direction until it ends or is cut, and says by what.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    cut: Cut,
    fault: &Fault,
) -> Option<Cut> {
    // What is under way, with when it arrives: so a slow wire is not a narrow one.
    let (send, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let take_up = async move {
        let (mut bytes, mut n_bytes, mut n_commits) = (vec![0; 8192], 0, 0);
        while let Ok(n @ 1..) = from.read(&mut bytes).await {
            let mut part = bytes[..n].to_vec();
            n_commits += usize::from(part.windows(6).any(|word| word.eq_ignore_ascii_case(b"commit")));
            let is_cut = match cut {
                Cut::Never => false,
                Cut::After(limit) => {
                    part.truncate(limit - n_bytes);
                    n_bytes += n;
                    n_bytes >= limit
                }
                Cut::InCommit(limit) => n_commits >= limit,
            };
            let arrives = Instant::now() + Duration::from_millis(fault.latency.load(Ordering::SeqCst));
            let _ = send.send((arrives, part));
            if is_cut {
                return Some(cut);
            }
        }
        None
    };
    let put_down = async {
        while let Some((arrives, part)) = under_way.recv().await {
            tokio::time::sleep_until(arrives.into()).await;
            if to.write_all(&part).await.is_err() {
                break;
            }
        }
    };
    let (cut, ()) = tokio::join!(take_up, put_down);
    cut
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_leave_once_over_a_wire_that_is_cut() {
    let n_mails = scaled(1_000, 10_000);
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    due_orders(&program.db.pool, n_mails).await;
    let wire = Wire::to(&program.db);
    wire.lay(&program);
    // Two hundred mails are claimed with some 50,000 bytes.
    wire.cuts(80_000);
    let mut codes = BTreeMap::<i32, usize>::new();
    let begun = Instant::now();
    while relay.n_accepted() < n_mails {
        let run = program.run(&["run", "send-invitations"]);
        assert!([0, 1, 3].contains(&run.code), "{run:?}");
        assert!(!run.stderr.contains("panicked"), "{run:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(scaled(300, 3_000) as u64),
            "{} of {n_mails}: {run:?}",
            relay.n_accepted()
        );
        *codes.entry(run.code).or_default() += 1;
    }
    wire.cuts(0);
    run_to_the_end(&program);
    let n_unknown = check(&program.db.pool, &relay, n_mails).await;
    let (n_cut, n_in_commit) = wire.n_cut();
    say(&format!(
        "{n_cut} cuts, {n_in_commit} of them in a commit, {n_mails} mails: {n_unknown} unknown; exit codes {codes:?}"
    ));
    assert!(n_cut > 10, "{n_cut} cuts");
    // What the relay said is written again for a minute; a batch of which every try was cut is given up.
    assert!(n_unknown <= n_mails / 10, "{n_unknown} unknown");
}

#[expect(clippy::disallowed_methods, reason = "the program serves on the system's clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The program with some customers who were mailed, their questions' addresses and the form that each of them fills in.
struct Asked {
    program: Program,
    wire: Wire,
    address: String,
    forms: Vec<Form>,
}

struct Form {
    invitation: InvitationId,
    link: String,
    fields: [(&'static str, String); 3],
}

impl Asked {
    async fn new(n: usize) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = "listen = \"127.0.0.1:8080\"";
        assert!(shipped().contains(listen));
        let jobs_toml = shipped()
            .replace("satisfaction", factories::SURVEY)
            .replace(listen, &format!("listen = \"127.0.0.1:{port}\""));
        let program = Program::new(&jobs_toml).await;
        let context = program.context(now()).await;
        let shop: ShopId = factories::shop(&program.db.pool, "maison").await;
        let mut forms = Vec::new();
        for n in 0..n {
            let pool = &program.db.pool;
            let customer = factories::customer(pool, shop, &format!("{n}@customer.example")).await;
            let order = Order::new(shop, customer, &format!("A-{n}")).insert(pool).await;
            let invitation = factories::sent_invitation(pool, shop, order, now() - TimeDelta::days(2)).await;
            let proof = fetched(&context.tokens, shop, invitation, now() - TimeDelta::minutes(1));
            let fields = [
                ("form.proof", proof),
                ("recommend", "yes".to_owned()),
                ("comment", format!("words of {n}")),
            ];
            let link = format!("/s/{}", context.tokens.issue(Purpose::Survey, shop, invitation));
            forms.push(Form { invitation, link, fields });
        }
        context.pool.close().await;
        let wire = Wire::to(&program.db);
        wire.lay(&program);
        Self { program, wire, address: format!("http://127.0.0.1:{port}"), forms }
    }

    /// Starts to serve. Over a wire that is cut, the start may fail as well.
    fn serve(&self) -> Serving {
        let begun = Instant::now();
        loop {
            let mut serving = Serving::start(self.program.dir.path());
            while serving.child.try_wait().unwrap().is_none() {
                if ureq::get(format!("{}/livez", self.address)).call().is_ok() {
                    return serving;
                }
                assert!(begun.elapsed() < Duration::from_secs(60), "{}", serving.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", serving.log());
        }
    }

    /// Sends a form; the status of the answer.
    fn send(&self, n: usize) -> u16 {
        let Form { link, fields, .. } = &self.forms[n];
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str()));
        agent.post(format!("{}{link}", self.address)).send_form(fields).unwrap().status().as_u16()
    }

    /// Each of them has answered once, in the own words.
    async fn check(&self) {
        let rows: Vec<(InvitationId, String, bool)> = sqlx::query_as(
            "select r.invitation_id, a.body, r.counted from response r join answer a using (shop_id, response_id)
             where a.question = 'comment' order by r.invitation_id",
        )
        .fetch_all(&self.program.db.pool)
        .await
        .unwrap();
        let expected: Vec<_> = (0..)
            .zip(&self.forms)
            .map(|(n, form)| (form.invitation, format!("words of {n}"), true))
            .collect();
        assert_eq!(rows, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_over_a_wire_that_is_cut_is_there_once() {
    let asked = Asked::new(scaled(150, 3_000)).await;
    asked.wire.cuts(5_000);
    let mut serving = asked.serve();
    let mut n_refused = 0;
    for n in 0..asked.forms.len() {
        let begun = Instant::now();
        loop {
            match asked.send(n) {
                303 => break,
                503 => n_refused += 1,
                other => panic!("{other}: {}", serving.log()),
            }
            // As the page asks of a person: the same form once more.
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", serving.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        serving.expect_alive();
    }
    let (n_cut, n_in_commit) = asked.wire.n_cut();
    asked.check().await;
    assert!(!serving.log().contains("panicked"), "{}", serving.log());
    assert_eq!(serving.stop(), Some(0));
    say(&format!(
        "{n_cut} cuts, {n_in_commit} of them in a commit, {} answers, each once; {n_refused} times asked to try again",
        asked.forms.len()
    ));
    assert!(n_cut > 20 && n_in_commit > 3, "{n_cut} cuts, {n_in_commit} in a commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_far_away_is_only_slow() {
    let milliseconds = scaled(50, 500) as u64;
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    due_orders(&program.db.pool, 40).await;
    let wire = Wire::to(&program.db);
    wire.lay(&program);
    wire.takes(milliseconds);
    program.run(&["run", "send-invitations"]).expect(0);
    assert_eq!(check(&program.db.pool, &relay, 40).await, 0);
    assert_eq!(relay.n_accepted(), 40);

    let asked = Asked::new(5).await;
    asked.wire.takes(milliseconds);
    let serving = asked.serve();
    for n in 0..5 {
        assert_eq!(asked.send(n), 303, "{}", serving.log());
    }
    asked.check().await;
    assert_eq!(serving.stop(), Some(0));
}
