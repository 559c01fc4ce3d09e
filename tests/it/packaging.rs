//! What the program is installed with: the units, the files of packaging/, the manual page and the completions, and the questions of
//! `init` on a terminal.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use afterword::cli::init::SHIPPED;
use afterword::cli::{Cli, systemd};
use afterword::config::Config;
use afterword::vitals::Vitals;
use clap::{CommandFactory as _, Parser as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::support::program::{Program, command, ran, shipped};
use crate::support::{data_dir, say, test_name};

const SERVICES: [&str; 2] = ["afterword.service", "afterword-run@.service"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a program is there; if not, says that the test was skipped.
fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        say(&format!("SKIPPED {}: there is no {program}", test_name()));
    }
    found
}

/// Every file of packaging/, from the root of the repository.
fn packaged() -> Vec<String> {
    let mut folders = vec![root().join("packaging")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    // What Docker is told of this machine stays on it.
    files.retain(|file| !file.ends_with("/.env"));
    files
}

#[test]
fn systemd_finds_the_units_sound_and_safe() {
    if !has("systemd-analyze") {
        return;
    }
    // Copies that name the program where it is now, and under the name of a job.
    let dir = data_dir();
    let mut copies = Vec::new();
    for unit in SERVICES.iter().chain(&["afterword-run@.timer"]) {
        let text = read(&format!("packaging/systemd/{unit}"))
            .replace("/usr/bin/afterword", env!("CARGO_BIN_EXE_afterword"));
        std::fs::write(dir.path().join(unit), text).unwrap();
        copies.push(format!("./{}", unit.replace('@', "@send-invitations")));
    }
    let analyze = |args: &[&str]| {
        let mut analyze = Command::new("systemd-analyze");
        ran(analyze.args(args).current_dir(dir.path()).env("SYSTEMD_COLORS", "0").output().unwrap())
    };
    let names: Vec<&str> = copies.iter().map(String::as_str).collect();
    let verified = analyze(&[&["verify", "--man=no"], &names[..]].concat()).expect(0);
    assert!(!verified.stderr.contains("afterword"), "{}", verified.stderr);
    for service in &names[..2] {
        let judged = analyze(&["security", "--offline=true", service]).expect(0).stdout;
        let exposure = judged.rsplit_once("exposure level for ").and_then(|(_, rest)| rest.split(' ').nth(1));
        let exposure: f64 = exposure.unwrap_or_else(|| panic!("{judged}")).parse().unwrap();
        assert!(exposure < 2.0, "{judged}");
    }
}

#[test]
fn both_services_are_confined_alike() {
    let confinement = SERVICES.map(|service| {
        let text = read(&format!("packaging/systemd/{service}"));
        let lines = text.lines().skip_while(|line| *line != "NoNewPrivileges=yes");
        lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    });
    assert!(confinement[0].len() > 20);
    assert_eq!(confinement[0], confinement[1]);
}

#[test]
fn commands_in_packaging_are_commands_and_their_jobs_are_shipped() {
    let mut lines = Vec::new();
    for file in packaged() {
        for line in read(&file).lines().filter(|line| !line.starts_with('#')) {
            if let Some((_, args)) = line.split_once("/usr/bin/afterword --config ") {
                lines.push((file.clone(), args.replace("%i", "send-invitations")));
            }
        }
    }
    assert!(lines.len() >= 7, "{lines:?}");
    let config = Config::parse(Path::new("jobs.toml"), SHIPPED).unwrap();
    for (file, args) in lines {
        let args: Vec<&str> = ["afterword", "--config"].into_iter().chain(args.split_whitespace()).collect();
        Cli::try_parse_from(&args).unwrap_or_else(|error| panic!("{file}: {error}"));
        if let [.., "run", job] = args[..] {
            assert!(config.jobs.iter().any(|known| known.name == job), "{file}: there is no job {job}");
        }
    }
    // cron runs all that the schedule would, at the same times.
    let crontab = read("packaging/cron.d/afterword");
    for job in config.jobs.iter().filter(|job| job.enabled || job.kind == "send_digest") {
        let Some(schedule) = &job.schedule else { continue };
        let line = crontab.lines().find(|line| line.ends_with(&format!(" run {}", job.name)));
        let line = line.unwrap_or_else(|| panic!("cron does not run {}", job.name));
        assert!(
            line.starts_with(&format!("{} ", schedule.expression())),
            "{line}: {}",
            schedule.expression()
        );
    }
    // What Docker's one-off command says to `init`.
    let compose = read("packaging/docker/compose.yaml");
    let options =
        compose.lines().filter_map(|line| line.trim().strip_prefix("- ")).filter(|arg| arg.starts_with("--"));
    Cli::try_parse_from(["afterword", "init"].into_iter().chain(options)).unwrap();
}

/// compose.yaml is what Compose takes, and speaks of the image, the program and the services that there are.
#[test]
fn what_compose_starts_is_there() {
    let (compose, dockerfile) = (read("packaging/docker/compose.yaml"), read("packaging/docker/Dockerfile"));
    let after = |text: &str, word: &str| {
        let rest = text.split_once(word).unwrap_or_else(|| panic!("there is no {word:?}")).1;
        rest.split(['\n', ' ', '"', '@', '?', ':', '/']).next().unwrap().to_owned()
    };
    // The image's own folders and port.
    for folder in
        dockerfile.lines().find(|line| line.starts_with("VOLUME")).unwrap().split('"').skip(1).step_by(2)
    {
        assert!(compose.contains(&format!(":{folder}\n")), "nothing is kept of {folder}");
    }
    let port = after(&dockerfile, "EXPOSE ");
    assert!(
        compose.contains(&format!(":{port}:{port}\""))
            && compose.contains(&format!("--listen=0.0.0.0:{port}\n"))
    );
    // Whom the program looks for, and as whom.
    let services = compose.split_once("\nservices:").unwrap().1.split("\nvolumes:").next().unwrap();
    for service in
        [after(&compose, "--relay="), after(&compose, "}@"), after(&compose, "depends_on:\n      ")]
    {
        assert!(services.contains(&format!("\n  {service}:\n")), "there is no service {service}");
    }
    // Docker waits for longer than the program does.
    let grace: u64 = after(&compose, "stop_grace_period: ").trim_end_matches('s').parse().unwrap();
    let config = Config::parse(Path::new("jobs.toml"), SHIPPED).unwrap();
    assert!(Duration::from_secs(grace) > config.app.shutdown_grace + Duration::from_secs(10));

    if !Command::new("docker").args(["compose", "version"]).output().is_ok_and(|said| said.status.success()) {
        return say(&format!("SKIPPED {}: there is no docker compose", test_name()));
    }
    let config = |password: Option<&str>| {
        let mut docker = Command::new("docker");
        docker.args(["compose", "--file", "packaging/docker/compose.yaml", "--env-file", "/dev/null"]);
        docker.args(["--profile", "setup", "config", "--format", "json"]).current_dir(root());
        docker.env_remove("POSTGRES_PASSWORD").envs(password.map(|password| ("POSTGRES_PASSWORD", password)));
        ran(docker.output().unwrap())
    };
    let refused = config(None);
    assert!(refused.code != 0 && refused.stderr.contains("packaging/docker/.env"), "{}", refused.stderr);
    let taken = config(Some("hush")).expect(0).json();
    let url = taken["services"]["afterword"]["environment"]["DATABASE_URL"].as_str().unwrap();
    let url: PgConnectOptions = url.parse().unwrap();
    let postgres = &taken["services"]["postgres"]["environment"];
    assert_eq!(postgres["POSTGRES_USER"], url.get_username());
    assert_eq!(postgres["POSTGRES_DB"], url.get_database().unwrap());
    assert_eq!(postgres["POSTGRES_PASSWORD"], "hush");
    let command =
        taken["services"]["init"]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    Cli::try_parse_from(["afterword"].into_iter().chain(command)).unwrap();
}

#[test]
fn every_file_of_packaging_is_explained_and_none_is_missing() {
    let readme = read("README.md");
    let explained =
        [readme.as_str(), &read("Cargo.toml"), &read("Makefile"), &read("CONTRIBUTING.md")].concat();
    for file in packaged() {
        // Those of a folder that is named whole.
        let folder = Path::new(&file).parent().unwrap().to_string_lossy().into_owned();
        assert!(
            explained.contains(&file)
                || explained.contains(&format!("\"{folder}\""))
                || file.ends_with(".dockerignore"),
            "nothing names {file}"
        );
    }
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "./@-_".contains(c);
    for (at, _) in readme.match_indices("packaging/") {
        let path: String = readme[at..].chars().take_while(|c| is_of_path(*c)).collect();
        let path = path.trim_end_matches('.');
        // The password of whoever tries it.
        assert!(path.ends_with("/.env") || root().join(path).exists(), "README.md names {path}");
    }
    let cargo_toml = read("Cargo.toml");
    let assets = cargo_toml.split("assets = [").nth(1).and_then(|rest| rest.split("\n]").next()).unwrap();
    for source in assets.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next()) {
        assert!(
            source.starts_with("target/") || root().join(source).exists(),
            "Cargo.toml packages {source}"
        );
    }
}

#[test]
fn nginx_takes_its_file() {
    if !has("nginx") {
        return;
    }
    let dir = data_dir();
    let key = rcgen::generate_simple_self_signed(vec!["feedback.shop.example".to_owned()]).unwrap();
    let here = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(here("fullchain.pem"), key.cert.pem()).unwrap();
    std::fs::write(here("privkey.pem"), key.signing_key.serialize_pem()).unwrap();
    let site = read("packaging/nginx/afterword.conf")
        .replace("/etc/letsencrypt/live/feedback.shop.example", &here(""))
        .replace("/var/log/nginx", &here(""));
    std::fs::write(here("site.conf"), site).unwrap();
    let around = format!("pid {}; events {{}} http {{ include {}; }}", here("pid"), here("site.conf"));
    std::fs::write(here("nginx.conf"), around).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.args(["-t", "-q", "-e", "stderr", "-c", &here("nginx.conf")]);
    assert_eq!(ran(nginx.output().unwrap()).expect(0).stderr, "");
}

#[test]
fn the_manual_page_and_the_completions_name_every_command() {
    let dir = data_dir();
    let output = |args: &[&str]| ran(command(dir.path()).args(args).output().unwrap()).expect(0).stdout;
    let man = output(&["man"]);
    let page = dir.path().join("afterword.1");
    std::fs::write(&page, &man).unwrap();
    let commands = Cli::command();
    let names: Vec<&str> = commands.get_subcommands().map(clap::Command::get_name).collect();
    for name in &names {
        assert!(man.contains(&format!(".SH {}", name.to_uppercase())), "the manual page lacks {name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]);
        for name in &names {
            assert!(script.contains(name), "{shell} does not complete {name}");
        }
        let file = dir.path().join(shell);
        std::fs::write(&file, script).unwrap();
        if Command::new(shell).arg("--version").output().is_ok() {
            ran(Command::new(shell).arg("-n").arg(&file).output().unwrap()).expect(0);
        }
    }
    if has("groff") {
        let set = Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(&page).output().unwrap();
        let set = ran(set).expect(0);
        assert_eq!(set.stderr, "", "what groff warns of");
        assert!(set.stdout.contains("testimonials"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_what_serve_does() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let program = Program::new(&shipped().replace("127.0.0.1:8080", &free)).await;
    let path = program.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = || {
        let mut word = [0; 64];
        let n = socket.recv(&mut word).expect("serve says nothing");
        String::from_utf8_lossy(&word[..n]).into_owned()
    };
    let mut serve = command(program.dir.path())
        .arg("serve")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(hear(), "READY=1");
    assert!(std::net::TcpStream::connect(&free).is_ok(), "ready means that the pages are there");
    // A third of the interval lies between two; what we were late to hear comes at once.
    let gaps = (0..10).map(|_| {
        let since = Instant::now();
        assert_eq!(hear(), "WATCHDOG=1");
        since.elapsed()
    });
    assert!(gaps.max().unwrap() >= Duration::from_millis(60));
    // What is stuck falls silent, so that systemd kills it.
    let pid = Pid::from_raw(serve.id().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 64]).is_ok() {}
    std::thread::sleep(Duration::from_millis(500));
    assert!(socket.recv(&mut [0; 64]).is_err());
    socket.set_nonblocking(false).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    while hear() != "STOPPING=1" {}
    assert!(serve.wait().unwrap().success());
}

#[tokio::test]
async fn systemd_is_told_nothing_while_the_scheduler_is_stuck() {
    let (vitals, stop, n_told) = (Vitals::default(), CancellationToken::new(), AtomicUsize::new(0));
    let is_told = async || {
        n_told.store(0, Ordering::Relaxed);
        let say = || {
            n_told.fetch_add(1, Ordering::Relaxed);
        };
        let alive = systemd::say_alive_by(say, Duration::from_millis(60), &vitals, &stop);
        assert!(tokio::time::timeout(Duration::from_millis(300), alive).await.is_err(), "it ends");
        n_told.load(Ordering::Relaxed) > 0
    };
    let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    assert!(is_told().await, "where only the pages are, nobody looks");
    vitals.scheduler_looked_at(ago(240));
    assert!(is_told().await, "a database that is slow, or away, is no reason");
    vitals.scheduler_looked_at(ago(301));
    assert!(!is_told().await);
    vitals.scheduler_looked();
    assert!(is_told().await, "it has looked again");
    vitals.scheduler_looked_at(ago(3600));
    stop.cancel();
    assert!(is_told().await, "who ends looks no more");
}

/// Answers the questions of `init` on a terminal, which util-linux's script(1) makes.
fn on_a_terminal(dir: &Path, args: &str, answers: &str) -> (i32, String) {
    let program = env!("CARGO_BIN_EXE_afterword");
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &format!("{program} {args}"), "/dev/null"])
        .current_dir(dir)
        .env_remove("DATABASE_URL")
        .env_remove("AFTERWORD_SECRET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    script.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn init_asks_on_a_terminal_and_writes_what_was_answered() {
    if !has("script") {
        return;
    }
    let dir = data_dir();
    let answers = "Atelier Rive\n\nhttps://www.rive.example\n\nen\nEurope/Lisbn\nEurope/Lisbon\n\n\n\nmail.rive.example:465\n\n\n";
    let (code, shown) = on_a_terminal(dir.path(), "init", answers);
    assert_eq!(code, 0, "{shown}");
    // What is wrong is said at once and asked again; what is taken for granted follows from what was said.
    for part in [
        "Name of the shop [Maison Exemple]:",
        "commands and files [atelier]:",
        "mails come from [Atelier Rive <avis@rive.example>]:",
        "\"Europe/Lisbn\" is not a time zone (did you mean `Europe/Lisbon`?)",
        "implicit) [implicit]:",
        "import orders orders.csv --shop atelier",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let path = dir.path().join("jobs.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = Config::parse(&path, &text).unwrap();
    let shop = &config.shops[0];
    assert_eq!((shop.key.as_str(), shop.locale.to_string().as_str()), ("atelier", "en"));
    assert_eq!(shop.timezone, chrono_tz::Europe::Lisbon);
    assert_eq!(text.lines().count(), SHIPPED.lines().count(), "no comment is lost");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // What root writes is for the group of the service, too.
    let of_jobs_toml = if nix::unistd::Uid::effective().is_root() { 0o640 } else { 0o600 };
    assert_eq!((mode(path), mode(dir.path().join("data/secret"))), (of_jobs_toml, 0o600));

    // Who goes away in the middle leaves nothing; a second `init` touches nothing; `--yes` asks nothing.
    let other = data_dir();
    let (code, shown) = on_a_terminal(other.path(), "init", "Atelier Rive\n\u{4}");
    assert_eq!(code, 1, "{shown}");
    assert!(std::fs::read_dir(other.path()).unwrap().next().is_none(), "{shown}");
    assert_eq!(on_a_terminal(dir.path(), "init", "").0, 4);
    let (code, shown) = on_a_terminal(other.path(), "init --yes", "");
    assert_eq!(code, 0, "{shown}");
    assert_eq!(std::fs::read_to_string(other.path().join("jobs.toml")).unwrap(), SHIPPED);
}

#[tokio::test]
async fn what_init_wrote_passes_the_check() {
    let program = Program::new(SHIPPED).await;
    std::fs::remove_file(program.path("jobs.toml")).unwrap();
    program.write_secret("database_url", &program.db.url);
    let url_file = program.path("database_url").to_string_lossy().into_owned();
    let args = ["init", "--shop-name", "L'Étoile & fils", "--relay", "127.0.0.1:1025", "--relay-tls", "none"];
    program.run(&[&args[..], &["--database-url-file", &url_file]].concat()).expect(0);
    program.run(&["check"]).expect(0);
    program.run(&["init"]).expect(4);
    std::fs::remove_file(program.path("jobs.toml")).unwrap();
    let wrong = program.run(&["init", "--relay", "mail", "--relay-tls", "starttls"]).expect(2);
    assert!(wrong.stderr.contains("--relay-tls: "), "{}", wrong.stderr);
    let wrong =
        program.run(&["init", "--database-url", "postgres://shop:hush-hush@db.example/shop"]).expect(2);
    assert!(
        wrong.stderr.contains("--database-url-file") && !wrong.stderr.contains("hush"),
        "{}",
        wrong.stderr
    );
    assert!(!program.path("jobs.toml").exists());
}
