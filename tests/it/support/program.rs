//! The real program in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use afterword::cli::{self, init};
use afterword::config::Config;
use afterword::context::Context;
use afterword::types::Clock;
use chrono::{DateTime, Utc};
use tempfile::TempDir;

use super::TestDb;
use super::config::smtp;

/// A directory with a jobs.toml, a database, and the program to run there.
pub struct Program {
    pub dir: TempDir,
    pub db: TestDb,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// It must have ended so.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.stdout, self.stderr))
    }
}

/// The shipped jobs.toml, its send window open all day (tests run at any hour).
pub fn shipped() -> String {
    let closed = "send_window = { days = \"mon-sat\", from = \"09:00\", to = \"19:00\" }";
    assert!(init::SHIPPED.contains(closed));
    init::SHIPPED.replace(closed, "")
}

/// The same, mails going to a relay at this port of this machine.
pub fn shipped_with(port: u16) -> String {
    let file = "transport = \"file\"";
    let text = shipped();
    let at = text.find(file).unwrap();
    format!("{}{}#{}", &text[..at], smtp(port), &text[at + file.len()..])
}

impl Program {
    /// With this jobs.toml, and a database of its own put into it.
    pub async fn new(jobs_toml: &str) -> Self {
        let program = Self { db: TestDb::new().await, dir: super::data_dir() };
        program.configure(jobs_toml);
        program
    }

    /// Writes the jobs.toml, the database's address put into it.
    pub fn configure(&self, jobs_toml: &str) {
        self.write(
            "jobs.toml",
            jobs_toml.replacen("[database]", &format!("[database]\nurl = {:?}", self.db.url), 1),
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = command(self.dir.path()).args(args).output().unwrap();
        ran(output)
    }

    /// Starts a command and leaves it running.
    pub fn spawn(&self, args: &[&str]) -> Child {
        command(self.dir.path()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What the program itself works with, at a fixed moment.
    pub async fn context(&self, now: DateTime<Utc>) -> Context {
        let path = self.path("jobs.toml");
        let config = Config::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
        cli::open_config(config, Clock::Fixed(now)).await.unwrap().context
    }
}

/// The program, in a directory, knowing nothing of this process's environment that it should not.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterword"));
    command
        .current_dir(dir)
        .env_remove("DATABASE_URL")
        .env_remove("AFTERWORD_SECRET")
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
