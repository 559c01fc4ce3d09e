//! What SECURITY.md promises about secrets and files, and no other file of the tests shows.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use afterword::token::Purpose;
use afterword::types::{InvitationId, ShopId};
use afterword::web;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::program::{Program, Ran, command, ran, shipped, shipped_with};
use crate::support::smtp::Relay;
use crate::support::{say, test_name};

/// Orders of which the first can be asked about on 10 March 2026 and the second has no address.
const ORDERS: &str = "order_id,email,ordered_at,fulfilled_at,status\n\
    B-1,claire@customer.example,2026-03-01T10:00:00Z,2026-03-02T10:00:00Z,fulfilled\n\
    B-2,nobody,2026-03-01T10:00:00Z,2026-03-02T10:00:00Z,fulfilled\n";

/// Makes a file look as if nobody had written to it for a while, so that the job does not wait for its end.
fn age(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_an_output_or_in_the_list_of_processes() {
    const SECRETS: [&str; 4] = [
        "hush-database-0123456789",
        "hush-relay-0123456789",
        "hush-token-0123456789-0123456789-0123456789",
        "hush-links-0123456789-0123456789-0123456789",
    ];
    let [database, relay, token, links] = SECRETS;
    let mail = Relay::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let program = Program::new(&shipped()).await;
    let config = shipped_with(mail.port)
        .replace("127.0.0.1:8080", &free)
        .replacen("# username = \"afterword\"", "username = \"afterword\"", 1)
        .replacen("# password_file = \"/etc/afterword/smtp_password\"", "password_file = \"relay\"", 1)
        + "[[access]]\nname = \"team\"\ntoken_file = \"token\"\nallow = [\"report\"]\n";
    program.write("jobs.toml", &config);
    program.write_secret("relay", relay);
    program.write_secret("token", token);
    program.write("orders.csv", ORDERS);
    let url = program.db.url.replacen("postgres://", "postgres://afterword:PASSWORD@", 1);
    let url = match url.split_once("PASSWORD@") {
        // The server of the tests has a user in its address already.
        Some((start, rest)) if rest.split('?').next().is_some_and(|rest| rest.contains('@')) => {
            let host = rest.split_once('@').unwrap().1;
            format!("{start}{database}@{host}")
        }
        Some((start, rest)) => format!("{start}{database}@{rest}"),
        None => panic!("{url}"),
    };
    let with = |args: &[&str], url: &str| -> Ran {
        let mut program = command(program.dir.path());
        program.env("DATABASE_URL", url).env("AFTERWORD_SECRET", links).env("RUST_LOG", "debug");
        ran(program.args(args).output().unwrap())
    };
    let unreachable = format!("postgres://afterword:{database}@127.0.0.1:1/afterword");
    let mut said = Vec::new();
    for (args, url, code) in [
        (&["import", "orders", "orders.csv", "--shop", "maison"][..], &url, 3),
        // The relay of the tests takes no login, so that both say what is wrong with it.
        (&["check", "--online"], &url, 1),
        (&["jobs", "--json"], &url, 0),
        (&["--as-of", "2026-03-10T10:00:00Z", "run", "send-invitations"], &url, 3),
        (&["explain", "order", "B-1"], &url, 0),
        (&["jobs"], &unreachable, 1),
        (&["check"], &format!("postgres://afterword:{database}@[/x"), 1),
    ] {
        let ran = with(args, url);
        let ran = ran.expect(code);
        said.push(format!("{args:?}: {}{}", ran.stdout, ran.stderr));
    }
    let mut serve = command(program.dir.path())
        .arg("serve")
        .env("DATABASE_URL", &url)
        .env("AFTERWORD_SECRET", links)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while std::net::TcpStream::connect(&free).is_err() {
        assert!(serve.try_wait().unwrap().is_none(), "serve has ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut n_seen = 0;
    for process in std::fs::read_dir("/proc").unwrap() {
        if let Ok(arguments) = std::fs::read(process.unwrap().path().join("cmdline")) {
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            n_seen += usize::from(arguments.contains("afterword serve"));
            said.push(arguments);
        }
    }
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(n_seen >= 1, "the list of processes does not show serve");
    for secret in SECRETS {
        for words in &said {
            assert!(!words.contains(secret), "{secret} is shown: {words}");
        }
    }
}

#[tokio::test]
async fn what_holds_peoples_data_is_not_for_the_world_to_read() {
    let program = Program::new(&shipped()).await;
    let inbox = program.write("data/inbox/orders/orders.csv", ORDERS);
    age(&inbox);
    program.run(&["run", "import-orders"]).expect(3);
    program.run(&["--as-of", "2026-03-10T10:00:00Z", "run", "send-invitations"]).expect(0);
    program.run(&["run", "weekly-testimonials"]).expect(0);
    program.run(&["report", "--html", "data/report.html"]).expect(0);
    let mut folders = vec![program.path("data")];
    let mut modes = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                modes.push((
                    entry.file_name().into_string().unwrap(),
                    entry.metadata().unwrap().permissions().mode() & 0o777,
                ));
            }
        }
    }
    let mode = |wanted: &dyn Fn(&str) -> bool| {
        let found: Vec<u32> = modes.iter().filter(|(name, _)| wanted(name)).map(|(_, mode)| *mode).collect();
        assert!(!found.is_empty(), "{modes:?}");
        found.into_iter().fold(0, |all, mode| all | mode)
    };
    assert_eq!(mode(&|name| name == "secret"), 0o600);
    assert_eq!(mode(&|name| name.ends_with(".eml")), 0o600);
    assert_eq!(mode(&|name| name.ends_with(".rejects.csv")), 0o600);
    assert_eq!(mode(&|name| name == "latest.csv" || name.starts_with("testimonials-")), 0o640);
    assert_eq!(mode(&|name| name == "report.html"), 0o640);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_inbox_only_regular_files_are_taken_and_nothing_leaves_by_a_link() {
    let program = Program::new(&shipped()).await;
    let elsewhere = program.write("elsewhere/orders.csv", ORDERS.replace("B-", "E-"));
    age(&elsewhere);
    let inbox = program.path("data/inbox/orders");
    let good = program.write("data/inbox/orders/good.csv", ORDERS);
    age(&good);
    symlink(&elsewhere, inbox.join("a-link.csv")).unwrap();
    symlink(program.path("elsewhere"), inbox.join("b-folder.csv")).unwrap();
    symlink("/dev/zero", inbox.join("c-device.csv")).unwrap();
    nix::unistd::mkfifo(&inbox.join("d-pipe.csv"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Would be written through, were it followed.
    symlink(&elsewhere, inbox.join(".good.csv.rejects")).unwrap();
    let before = std::fs::read(&elsewhere).unwrap();

    // The link lies where the rejects would go: the file stays, and says why.
    let held = program.run(&["run", "import-orders", "--json"]).expect(3).json().to_string();
    assert!(held.contains("is a link"), "{held}");
    assert!(good.exists());
    std::fs::remove_file(inbox.join(".good.csv.rejects")).unwrap();
    program.run(&["run", "import-orders"]).expect(3);
    let taken = || -> Vec<PathBuf> {
        std::fs::read_dir(inbox.join("done"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    assert_eq!(taken().len(), 2, "the file and its rejects: {:?}", taken());
    for left in ["a-link.csv", "b-folder.csv", "c-device.csv", "d-pipe.csv"] {
        assert!(inbox.join(left).symlink_metadata().is_ok(), "{left} was touched");
    }
    let n_foreign: i64 = sqlx::query_scalar("select count(*) from \"order\" where external_id like 'E-%'")
        .fetch_one(&program.db.pool)
        .await
        .unwrap();
    assert_eq!(n_foreign, 0);

    // A folder of ours that is a link leads nowhere.
    std::fs::remove_dir_all(inbox.join("done")).unwrap();
    symlink(program.path("elsewhere"), inbox.join("done")).unwrap();
    let next = program.write("data/inbox/orders/next.csv", ORDERS.replace("B-", "C-"));
    age(&next);
    program.run(&["run", "import-orders"]).expect(1);
    assert!(next.exists());
    assert_eq!(std::fs::read_dir(program.path("elsewhere")).unwrap().count(), 1);
    assert_eq!(std::fs::read(&elsewhere).unwrap(), before);
}

type PutThere = fn(place: &Path, elsewhere: &Path) -> nix::Result<()>;

/// Everything that is no regular file; `elsewhere` is one that would be taken, were it followed.
const STRANGE: [(&str, PutThere); 8] = [
    ("a link to a file", |place, elsewhere| nix::unistd::symlinkat(elsewhere, AT_FDCWD, place)),
    ("a link to a folder", |place, elsewhere| {
        nix::unistd::symlinkat(elsewhere.parent().unwrap(), AT_FDCWD, place)
    }),
    ("a link to a device", |place, _| nix::unistd::symlinkat("/dev/zero", AT_FDCWD, place)),
    ("a link to nothing", |place, _| nix::unistd::symlinkat("/nowhere/at/all", AT_FDCWD, place)),
    ("a folder", |place, _| nix::unistd::mkdir(place, Mode::S_IRWXU)),
    ("a pipe", |place, _| nix::unistd::mkfifo(place, Mode::S_IRWXU)),
    ("a socket", |place, _| mknod(place, SFlag::S_IFSOCK, Mode::S_IRWXU, 0)),
    ("a device", |place, _| mknod(place, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5))),
];

/// Puts one of these there; `false` where that is not allowed, as it may be of devices.
fn put((what, put): (&str, PutThere), place: &Path, elsewhere: &Path) -> bool {
    match put(place, elsewhere) {
        Err(Errno::EPERM) if what == "a device" => {
            say(&format!("SKIPPED {} for {what}: it cannot be made here", test_name()));
            false
        }
        made => made.map(|()| true).unwrap_or_else(|error| panic!("{what}: {error}")),
    }
}

/// Runs a job, which a pipe must not keep for ever.
fn run_in_time(program: &Program, args: &[&str]) -> Ran {
    let mut run = command(program.dir.path());
    let mut child = run.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("{args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ran(child.wait_with_output().unwrap())
}

const BOUNCE: &str = "From: postmaster@relay.example\nSubject: Undelivered\n\nNo such user\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_inbox_takes_anything_but_regular_files() {
    let program = Program::new(&shipped()).await;
    for (job, inbox, content) in [
        (
            "import-orders",
            "data/inbox/orders",
            "order_id,email,ordered_at\nB-1,claire@customer.example,2026-03-01T10:00:00Z\n",
        ),
        (
            "import-events",
            "data/inbox/events",
            "order_id,event,happened_at\nB-1,case_closed,2026-03-02T10:00:00Z\n",
        ),
        (
            "collect-responses",
            "data/inbox/responses",
            "order_id,answered_at,recommend,overall,comment\nB-1,2026-03-12T10:00:00Z,yes,5,Fine\n",
        ),
        (
            "collect-ratings",
            "data/inbox/ratings",
            "source,rated_on,score,scale,ratings\nPortal,2026-03-01,4.5,5,10\n",
        ),
        ("collect-bounces", "data/inbox/bounces", BOUNCE),
        ("collect-bounces", "data/inbox/bounces/new", BOUNCE),
    ] {
        let elsewhere = program.write("elsewhere/file.csv", content);
        age(&elsewhere);
        let good = program.write(&format!("{inbox}/good.csv"), content);
        age(&good);
        let inbox = program.path(inbox);
        let places: Vec<PathBuf> = STRANGE
            .iter()
            .enumerate()
            .map(|(n, strange)| (strange, inbox.join(format!("{n}.csv"))))
            .filter(|(strange, place)| put(**strange, place, &elsewhere))
            .map(|(_, place)| place)
            .collect();
        let kind = |place: &PathBuf| (place.clone(), place.symlink_metadata().unwrap().file_type());
        let before: Vec<_> = places.iter().map(kind).collect();
        let ran = run_in_time(&program, &["run", job, "--json"]);
        assert!([0, 3].contains(&ran.code), "{}: {}", inbox.display(), ran.stderr);
        assert_eq!(ran.json()["details"]["n_read"], 1, "{}: {}", inbox.display(), ran.stdout);
        assert!(!good.exists());
        assert_eq!(places.iter().map(kind).collect::<Vec<_>>(), before);
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), content);
        assert_eq!(std::fs::read_dir(elsewhere.parent().unwrap()).unwrap().count(), 1);
    }

    // A Maildir of which a part is a link.
    let elsewhere = program.write("elsewhere/file.csv", BOUNCE);
    age(&elsewhere);
    std::fs::remove_dir_all(program.path("data/inbox/bounces/new")).unwrap();
    symlink(program.path("elsewhere"), program.path("data/inbox/bounces/new")).unwrap();
    let refused = run_in_time(&program, &["run", "collect-bounces"]).expect(1);
    assert!(refused.stderr.contains("bounces/new is a link"), "{}", refused.stderr);
    assert!(elsewhere.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_a_regular_file() {
    let jobs = shipped().replace("maildir = \"./data/inbox/bounces\"", "mbox = \"./mail/returned\"");
    let program = Program::new(&jobs).await;
    let content = format!("From MAILER-DAEMON Mon Mar  2 10:00:00 2026\n{BOUNCE}");
    let elsewhere = program.write("elsewhere/mailbox", &content);
    let mbox = program.path("mail/returned");
    std::fs::create_dir(program.path("mail")).unwrap();
    // The mailbox itself, and where what a run that died had taken lies.
    for place in [mbox.clone(), program.path("mail/returned.taken")] {
        for strange in STRANGE {
            if !put(strange, &place, &elsewhere) {
                continue;
            }
            let kind = place.symlink_metadata().unwrap().file_type();
            for (more, code) in [("--dry-run", 3), ("--json", 1)] {
                let refused = run_in_time(&program, &["run", "collect-bounces", more]).expect(code);
                let said = refused.stdout + &refused.stderr;
                assert!(said.contains("no regular file"), "{} {}: {said}", strange.0, place.display());
            }
            assert_eq!(place.symlink_metadata().unwrap().file_type(), kind, "{}", strange.0);
            assert_eq!(std::fs::read_dir(program.path("mail")).unwrap().count(), 1, "nothing beside it");
            assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), content);
            // Whoever is erased is looked for there, too, and nothing keeps that for ever.
            run_in_time(&program, &["erase", "nobody@customer.example", "--yes"]);
            if kind.is_dir() { std::fs::remove_dir(&place) } else { std::fs::remove_file(&place) }.unwrap();
        }
    }
    std::fs::write(&mbox, &content).unwrap();
    let taken = run_in_time(&program, &["run", "collect-bounces", "--json"]).expect(0);
    assert_eq!(taken.json()["details"]["n_read"], 1, "{}", taken.stdout);
}

/// What people type is a parameter of a statement and never a part of one: `sqlx` takes nothing but texts that are written in the source
/// or that somebody vouches for, and nobody does. What is compiled in are the statements themselves.
#[test]
fn no_statement_is_put_together_from_what_people_type() {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut n_files, mut n_checked) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                n_files += 1;
                n_checked += ["query!(", "query_as!(", "query_scalar!(", "query_file!(", "query_file_as!("]
                    .iter()
                    .map(|checked| source.matches(checked).count())
                    .sum::<usize>();
                for vouches in ["AssertSqlSafe", "SqlStr::", "QueryBuilder"] {
                    assert!(!source.contains(vouches), "{}: {vouches}", path.display());
                }
            }
        }
    }
    assert!(n_files > 100 && n_checked > 100, "{n_files} files, {n_checked} statements");
}

/// Whatever is asked for: a redirection goes to a place of ours, which no part of the request names.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirection_leads_to_nobody_else() {
    let token = "hush-token-0123456789-0123456789-0123456789";
    let access = format!("\n[[access]]\nname = \"team\"\ntoken = \"{token}\"\nallow = [\"export\"]\n");
    let program = Program::new(&(shipped() + &access)).await;
    program.write("orders.csv", ORDERS);
    program.run(&["import", "orders", "orders.csv", "--shop", "maison"]).expect(3);
    program.run(&["--as-of", "2026-03-10T10:00:00Z", "run", "send-invitations"]).expect(0);
    let invitation: i64 = sqlx::query_scalar("select invitation_id from invitation where state = 'sent'")
        .fetch_one(&program.db.pool)
        .await
        .unwrap();
    let context = program.context("2026-03-10T12:00:00Z".parse().unwrap()).await;
    let survey = context.tokens.issue(Purpose::Survey, ShopId(1), InvitationId(invitation)).to_string();
    let stop = CancellationToken::new();
    let listen = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, url)
    };
    let ((public, public_url), (private, private_url)) = (listen().await, listen().await);
    tokio::spawn(web::serve(public, context.clone(), stop.clone()));
    tokio::spawn(web::private::serve(private, context, stop.clone()));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let asked = |url: &str| {
        let request = agent
            .get(url)
            .header("Host", "evil.example")
            .header("X-Forwarded-Host", "evil.example")
            .header("Accept", "text/html")
            .header("Authorization", format!("Bearer {token}"));
        let answer = request.call().unwrap();
        let places =
            answer.headers().get_all("location").iter().map(|place| place.to_str().unwrap().to_owned());
        (answer.status().as_u16(), places.collect::<Vec<_>>())
    };
    let hostile = [
        "next=https://evil.example/",
        "/evil.example/",
        "//evil.example/",
        "@evil.example/",
        "\\\\evil.example",
        "shop=//evil.example&url=//evil.example",
        "%0d%0aLocation:%20https://evil.example/",
    ];
    for words in hostile {
        // Thanked is who has answered; what cannot be exported is said on the page.
        let (status, places) = asked(&format!("{public_url}/s/{survey}/thanks?{words}"));
        assert_eq!((status, places), (303, vec![format!("/s/{survey}")]), "{words}");
        let (status, places) = asked(&format!("{private_url}/exports/testimonials.csv?format=no&{words}"));
        assert_eq!((status, places.len()), (303, 1), "{words}");
        assert!(places[0].starts_with("../exports?format=no&"), "{words}: {places:?}");
        for path in ["", "/", "s/", "s/x/thanks?", "outbox?", "exports/", "u/"] {
            for url in [&public_url, &private_url] {
                let (_, places) = asked(&format!("{url}/{path}{words}"));
                assert!(
                    places.iter().all(|place| !place.contains("evil.example")),
                    "{path}{words}: {places:?}"
                );
            }
        }
    }
    stop.cancel();
}

/// Whoever may write to an inbox may put a link where our folder was, and what is old is let go of there.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_link_is_not_purged() {
    let jobs = shipped().replace("# files = \"90d\"", "files = \"90d\"");
    let program = Program::new(&jobs).await;
    let precious = program.write("elsewhere/precious.csv", "precious");
    program.write("data/inbox/events/done/old.csv", "old");
    std::fs::create_dir_all(program.path("data/inbox/orders")).unwrap();
    for folder in ["done", "failed", "aside"] {
        symlink(program.path("elsewhere"), program.path("data/inbox/orders").join(folder)).unwrap();
    }
    for (more, is_left) in [(&["--dry-run"][..], true), (&[], false)] {
        let args = [&["run", "purge", "--json", "--as-of", "2096-01-01T04:00:00Z"], more].concat();
        let purged = program.run(&args).expect(3).json()["details"]["purged"].clone();
        // The others are not kept waiting by it.
        assert_eq!(purged["n_files"], 1);
        let left = purged["left"].as_str().unwrap();
        assert!(left.ends_with("data/inbox/orders/done is a link, and links are not followed"), "{left}");
        assert_eq!(program.path("data/inbox/events/done/old.csv").exists(), is_left);
    }
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
}

#[tokio::test]
async fn what_is_written_replaces_nothing_but_files() {
    let program = Program::new(&shipped()).await;
    let victim = program.write("victim", "precious");
    symlink(&victim, program.path("link.csv")).unwrap();
    nix::unistd::mkfifo(&program.path("pipe.html"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for args in [
        &["export", "testimonials", "--out", "link.csv"][..],
        &["export", "metrics", "--out", "link.csv"],
        &["export", "testimonials", "--out", "/dev/null"],
        &["report", "--html", "pipe.html"],
        &["report", "--html", "/dev/stdout"],
    ] {
        let refused = program.run(args).expect(1).stderr;
        assert!(
            refused.contains("is a link") || refused.contains("is a device or a pipe"),
            "{args:?}: {refused}"
        );
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());

    // The folder of a scheduled export.
    let exports = program.path("data/exports/testimonials");
    std::fs::create_dir_all(&exports).unwrap();
    symlink(&victim, exports.join("latest.csv")).unwrap();
    program.run(&["run", "weekly-testimonials"]).expect(1);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    // Names that come from outside are keys, and a key has no way out of a folder.
    program.configure(&shipped().replace("\"maison\"", "\"../maison\""));
    let wrong = program.run(&["check"]).expect(2).stderr;
    assert!(wrong.contains("cannot be the key of a shop"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_others_can_read_is_refused_or_told() {
    let config = shipped_with(1)
        .replacen("# username = \"afterword\"", "username = \"afterword\"", 1)
        .replacen("# password_file = \"/etc/afterword/smtp_password\"", "password_file = \"relay\"", 1);
    let token = "hush-token-0123456789-0123456789-0123456789";
    let program = Program::new(&format!(
        "{config}\n[[access]]\nname = \"team\"\ntoken_file = \"token\"\nallow = [\"report\"]\n"
    ))
    .await;
    program.write_secret("relay", "hush-relay");
    program.write_secret("token", token);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(program.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    program.run(&["check"]).expect(0);
    for name in ["relay", "token"] {
        for open in [0o644, 0o604, 0o660] {
            mode(name, open);
            let ran = program.run(&["check"]).expect(2);
            let what = format!("{name} can be read by others; run `chmod 600 {name}`");
            // Long lines are broken where they are shown.
            let said =
                ran.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
            assert_eq!(ran.stderr.matches("Error:").count(), 1, "nothing else is wrong: {}", ran.stderr);
            assert!(said.contains(&what) && !said.contains("hush"), "{what}: {}", ran.stderr);
        }
        mode(name, 0o400);
    }
    program.run(&["check"]).expect(0);

    // The file itself, once it holds one: a token, or a password in an address.
    let warned =
        |ran: Ran| ran.expect(0).stderr.contains("holds a password or a token, and can be read by others");
    mode("jobs.toml", 0o644);
    assert!(!warned(program.run(&["check"])), "it only names files");
    program.configure(&format!(
        "{config}\n[[access]]\nname = \"team\"\ntoken = \"{token}\"\nallow = [\"report\"]\n"
    ));
    mode("jobs.toml", 0o644);
    assert!(warned(program.run(&["check"])));
    mode("jobs.toml", 0o600);
    assert!(!warned(program.run(&["check"])));
    // From the environment it is in no file.
    program.configure(&format!(
        "{config}\n[[access]]\nname = \"team\"\ntoken = \"${{TEAM_TOKEN}}\"\nallow = [\"report\"]\n"
    ));
    mode("jobs.toml", 0o644);
    let mut check = command(program.dir.path());
    assert!(!warned(ran(check.arg("check").env("TEAM_TOKEN", token).output().unwrap())));
}
